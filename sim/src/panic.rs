//! Panics of the code that is simulated, taken as failures.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// What the first panic on this thread said, while one is to be caught.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `f`; what a panic in it said, and where it came from, is the error.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // A sweep meets the same panic many times: it is told once, as a failure, and not at once.
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = SAID.with_borrow_mut(|said| match said {
                Some(said) => {
                    // The first is the cause: whoever ran a task that panicked may panic over it.
                    if said.is_empty() {
                        *said = info.to_string().replace('\n', " ");
                    }
                    true
                }
                None => false,
            });
            if !kept {
                before(info);
            }
        }));
    });
    let outer = SAID.replace(Some(String::new()));
    // The world is read afterwards only: its counts and its trace.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    let said = SAID.replace(outer);
    result.map_err(|_| said.unwrap_or_default())
}

/// What the first panic said since the innermost [`caught`] began, be it one that somebody has caught, such as the
/// runtime in whose task it was.
pub(crate) fn said() -> Option<String> {
    SAID.with_borrow(|said| said.clone().filter(|said| !said.is_empty()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_what_it_said_and_where() {
        let said = caught(|| -> u32 { panic!("no {}", "dot") }).unwrap_err();
        assert!(said.contains("no dot"), "{said}");
        assert!(said.contains("panic.rs:"), "{said}");
        assert_eq!(caught(|| 7), Ok(7));
    }
}
