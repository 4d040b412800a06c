//! The smallest schedule of a failure.

use std::io::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sim::case::Case;
use sim::outcome::{Failure, Invariant};
use sim::schedule::Schedule;
use sim::shrink;
use sim::tier::Tier;
use sim::world::Options;

use super::{Held, Shrink, Stopped, case_of, file};

pub(super) fn shrink(tier: Tier, args: &Shrink, out: &mut dyn Write) -> Held {
    let case = case_of(
        tier,
        args.file.as_ref(),
        args.seed,
        args.scenario,
        args.sabotage,
    )?;
    let options = Options {
        sabotage: case.sabotage(),
        trace: false,
    };
    let outcome = case.run(false);
    let name = &case.schedule().name;
    let budget = args.budget.unwrap_or(match tier {
        Tier::Core => 20_000,
        Tier::Full => 1_000,
    });
    let progress = progress(budget);
    // A planted defect acts once in a hundred opportunities, of which a small schedule has few.
    let seeds = match (args.sabotage, tier) {
        (None, _) => 5,
        (Some(_), Tier::Core) => 200,
        (Some(_), Tier::Full) => 20,
    };
    let mut shrunk = match (args.reach, &outcome.failure) {
        (None, None) => {
            return Err(Stopped::Usage(format!(
                "{name} holds: there is nothing to shrink"
            )));
        }
        (Some(_), Some(failure)) => {
            return Err(Stopped::Usage(format!(
                "{name} does not hold: {:?}",
                failure.invariant
            )));
        }
        (Some(state), None) if outcome.coverage.of(state) == 0 => {
            let state = state.name();
            return Err(Stopped::Usage(format!("{name} does not reach {state:?}")));
        }
        (Some(state), None) => shrink::shrink(case.schedule(), budget, seeds, |candidate| {
            progress.inc(1);
            let outcome = tier.run(candidate, options);
            // In a cluster of which somebody hears something: what is reached by doing nothing says little.
            let tells = outcome.traffic.deltas > 0;
            outcome.failure.is_none() && outcome.coverage.of(state) > 0 && tells
        }),
        (None, Some(failure)) => shrink::shrink(case.schedule(), budget, seeds, |candidate| {
            progress.inc(1);
            let broken = tier.run(candidate, options).failure;
            broken.is_some_and(|broken| broken.invariant == failure.invariant)
        }),
    };
    progress.finish_and_clear();
    shrunk.schedule.name = match args.reach {
        Some(state) => format!("{}, shrunk from {name}", state.name()),
        None => format!("shrunk from {name}"),
    };
    let path = args.out.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(format!("{}.json", case.slug())));
    file::write(&path, &shrunk.schedule.to_json())?;
    let (before, after) = (size(case.schedule()), size(&shrunk.schedule));
    writeln!(out, "{name}: {before}")?;
    writeln!(
        out,
        "{}: {after}, after {} runs\n",
        path.display(),
        shrunk.runs
    )?;
    let small = Case::saved(tier, &path, shrunk.schedule, case.sabotage());
    if let Some(failure) = small.run(false).failure {
        out.write_all(sim::report::failure(&small, &failure).as_bytes())?;
        writeln!(out, "\nAs a test:\n")?;
        out.write_all(test(&small, &case, &failure, &path).as_bytes())?;
        return Ok(false);
    }
    Ok(true)
}

fn progress(budget: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} shrinking: {pos} runs, {len} at most");
    ProgressBar::new(budget).with_style(style.expect("the template is sound"))
}

fn size(schedule: &Schedule) -> String {
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    format!(
        "{}, {}, {:.1} s",
        counted(schedule.nodes.len(), "node"),
        counted(schedule.steps.len(), "step"),
        schedule.heal_ms as f64 / 1000.0
    )
}

/// A test that stands on its own.
fn test(small: &Case, found: &Case, failure: &Failure, path: &Path) -> String {
    let name: String = found
        .slug()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let invariant = snake(failure.invariant);
    let tier = small.tier();
    let json = small.schedule().to_json();
    let (options, assertion) = match small.sabotage() {
        None => (
            "Options::default()".into(),
            "    assert!(outcome.failure.is_none(), \"{}\", outcome.failure.unwrap());\n".into(),
        ),
        Some(sabotage) => (
            format!("Options {{ sabotage: Sabotage::named(\"{sabotage}\"), trace: false }}"),
            format!(
                "    let invariant = outcome.failure.map(|failure| failure.invariant);\n    \
                 assert_eq!(invariant, Some(Invariant::{:?}));\n",
                failure.invariant
            ),
        ),
    };
    format!(
        "/// {}. Found by `{}`.\n#[test]\nfn {invariant}_{name}() {{\n    // Or include_str! of {}.\n    \
         let schedule = Schedule::parse(\n        r##\"{json}\"##,\n    )\n    .unwrap();\n    \
         let outcome = Tier::{tier:?}.run(&schedule, {options});\n{assertion}}}\n",
        capital(failure.invariant.sentence()),
        found.repeat(),
        path.display(),
    )
}

fn snake(invariant: Invariant) -> String {
    let mut name = String::new();
    for c in format!("{invariant:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
