//! What is different where a person watches: colors, and a bar for what takes long.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Shorter work is done before a bar could be read.
const PATIENCE: Duration = Duration::from_millis(400);

/// Colors a text, or leaves it plain.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) const PLAIN: Self = Self(false);

    /// Colors if standard output is a terminal and `NO_COLOR` (no-color.org) is not set.
    pub(crate) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!refused && io::stdout().is_terminal())
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.styled("31;1", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.styled("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.styled("33", text)
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A bar on standard error that appears when the work takes long, and only on a terminal.
pub(crate) struct Progress {
    total: usize,
    started: Instant,
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self::wanted(io::stderr().is_terminal(), total)
    }

    pub(crate) fn hidden() -> Self {
        Self::wanted(false, 0)
    }

    fn wanted(wanted: bool, total: usize) -> Self {
        Self {
            total,
            started: Instant::now(),
            bar: None,
            wanted,
        }
    }

    pub(crate) fn advance(&mut self, done: usize) {
        if self.bar.is_none() && self.wanted && self.started.elapsed() > PATIENCE {
            let bar = ProgressBar::new(self.total as u64);
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left")
            {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    /// Writes `text` while the bar is out of the way, which is drawn anew after it.
    pub(crate) fn print(&self, text: &[u8], out: &mut dyn Write) -> io::Result<()> {
        match &self.bar {
            _ if text.is_empty() => Ok(()),
            Some(bar) => bar.suspend(|| out.write_all(text)),
            None => out.write_all(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_escapes_and_painted_text_ends_its_color() {
        assert_eq!(Paint::PLAIN.red("a"), "a");
        assert_eq!(Paint(true).green("a"), "\x1b[32ma\x1b[0m");
    }
}
