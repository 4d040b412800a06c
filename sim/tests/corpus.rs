//! Schedules of the first tier that once failed, or that reach something rare.
//!
//! A file is named after the state that it reaches (`queue-overflow.json`) or after what it once broke
//! (`failed-….json`). `sim shrink --seed N --reach STATE --out FILE` makes one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use sim::coverage::Counted;
use sim::schedule::Schedule;
use sim::world::{Options, run};

fn corpus() -> Vec<(String, Schedule)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let schedules = files.into_iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let json = fs::read_to_string(&path).unwrap();
        let schedule = Schedule::parse(&json).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        (name, schedule)
    });
    schedules.collect()
}

/// The state that a file is named after.
fn state(name: &str) -> Option<Counted> {
    let mut all = Counted::ALL.iter().copied();
    all.find(|what| what.name().replace(' ', "-") == name)
}

#[test]
fn every_schedule_of_the_corpus_holds_and_reaches_what_it_is_named_after() {
    let corpus = corpus();
    assert!(corpus.len() >= 12, "the corpus was found");
    for (name, schedule) in corpus {
        let outcome = run(&schedule, Options::default());
        if let Some(failure) = outcome.failure {
            panic!("{name}: {failure}");
        }
        if name.starts_with("failed-") {
            continue;
        }
        let state = state(&name).unwrap_or_else(|| panic!("{name} is no state that is counted"));
        assert!(
            outcome.coverage.of(state) > 0,
            "{name} is not reached any more"
        );
    }
}
