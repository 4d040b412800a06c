//! Many runs: sweeps, planted defects, measurements.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use sim::bench;
use sim::case::Family;
use sim::convergence::Convergence;
use sim::coverage::Counted;
use sim::report::{self, seconds, table};
use sim::sabotage::Sabotage;
use sim::sweep::{self, Plan, Swept, Tally};
use sim::tier::Tier;

use super::{Bench, Converged, Held, Sabotaged, Scenarios, Stopped, Sweep, file, jobs};

pub(super) fn scenarios(out: &mut dyn Write) -> Held {
    for scenario in sim::scenarios::all() {
        writeln!(out, "{}\n    {}", scenario.name, scenario.rule)?;
    }
    Ok(true)
}

pub(super) fn sweep(tier: Tier, args: &Sweep, out: &mut dyn Write) -> Held {
    let plan = Plan {
        tier,
        families: families(&args.scenario),
        first: args.seeds.first,
        end: args.seeds.end,
        jobs: jobs(args.jobs),
        sabotage: None,
        until_covered: args.until_covered,
    };
    if plan.end.is_none() && !plan.until_covered {
        let what = "--seeds without an end goes with --until-covered only";
        return Err(Stopped::Usage(what.into()));
    }
    let seeds = plan.end.map(|end| end - plan.first);
    let progress = bar(seeds.map(|seeds| seeds.saturating_mul(plan.families.len() as u64)));
    let start = Instant::now();
    let swept = sweep::sweep(&plan, &|| progress.inc(1));
    progress.finish_and_clear();
    let total = swept.total();
    out.write_all(summary(tier, &swept, &total).as_bytes())?;
    let elapsed = start.elapsed();
    writeln!(
        out,
        "\n{} runs in {}, {:.0} a second on {} threads; {} events.",
        HumanCount(total.runs),
        seconds(elapsed),
        total.runs as f64 / elapsed.as_secs_f64(),
        plan.jobs,
        HumanCount(total.events)
    )?;
    if let Some((case, failure)) = &swept.failure {
        writeln!(out, "\nFAILED, after {} seeds:\n", HumanCount(swept.seeds))?;
        out.write_all(report::failure(case, failure).as_bytes())?;
        return Ok(false);
    }
    let missing = total.coverage.missing(tier);
    if !missing.is_empty() && (args.require_coverage || args.until_covered) {
        let names: Vec<&str> = missing.into_iter().map(Counted::name).collect();
        writeln!(out, "\nFAILED: never happened: {}.", names.join(", "))?;
        return Ok(false);
    }
    writeln!(out, "All held.")?;
    Ok(true)
}

fn families(asked: &[Scenarios]) -> Vec<Family> {
    let mut families = Vec::new();
    for scenario in asked {
        match scenario {
            Scenarios::One(family) => families.push(*family),
            Scenarios::All => families.extend(sim::scenarios::all().iter().map(Family::from)),
        }
    }
    if families.is_empty() {
        families.push(Family::Swarm);
    }
    families
}

fn summary(tier: Tier, swept: &Swept, total: &Tally) -> String {
    let within = |tally: &Tally, part| tally.agreed_within(part).map_or("–".into(), seconds);
    let rows: Vec<[String; 7]> = swept
        .tallies
        .iter()
        .map(|tally| {
            [
                tally.family.name().into(),
                HumanCount(tally.runs).to_string(),
                HumanCount(tally.events).to_string(),
                HumanCount(tally.messages).to_string(),
                within(tally, 0.5),
                within(tally, 0.9),
                within(tally, 1.0),
            ]
        })
        .collect();
    let head = [
        "scenario",
        "runs",
        "events",
        "messages",
        "half agreed",
        "9 of 10",
        "all",
    ];
    let mut text = table(head, &rows);
    text.push('\n');
    let rows: Vec<[String; 3]> = tier
        .counted()
        .map(|what| {
            [
                what.name().into(),
                HumanCount(total.coverage.of(what)).to_string(),
                HumanCount(total.runs_with(what)).to_string(),
            ]
        })
        .collect();
    text.push_str(&table(["fault or state", "times", "runs"], &rows));
    text
}

pub(super) fn sabotage(tier: Tier, args: &Sabotaged, out: &mut dyn Write) -> Held {
    let all: Vec<Sabotage> = match args.only {
        Some(only) if !tier.has(only) => {
            let what = format!("{only} is not planted in the tier {tier}");
            return Err(Stopped::Usage(what));
        }
        Some(only) => vec![only],
        None => tier.defects().collect(),
    };
    let progress = bar(Some(all.len() as u64));
    let (mut rows, mut missed, mut told) = (Vec::new(), Vec::new(), String::new());
    for defect in all {
        let plan = Plan {
            tier,
            families: vec![Family::Swarm],
            first: args.seeds.first,
            end: args.seeds.end,
            jobs: jobs(args.jobs),
            sabotage: Some(defect),
            until_covered: false,
        };
        let swept = sweep::sweep(&plan, &|| ());
        progress.inc(1);
        let found = match &swept.failure {
            Some((case, failure)) => {
                if args.only.is_some() {
                    told = report::failure(case, failure);
                }
                format!("{:?}", failure.invariant)
            }
            None => {
                missed.push(defect.id());
                "NEVER FOUND".into()
            }
        };
        rows.push([
            defect.id().into(),
            HumanCount(swept.seeds).to_string(),
            HumanCount(swept.total().sabotaged).to_string(),
            found,
            defect.describe().trim().into(),
        ]);
    }
    progress.finish_and_clear();
    let head = ["defect", "seeds", "acted", "found by", "what it does"];
    out.write_all(table(head, &rows).as_bytes())?;
    if !told.is_empty() {
        write!(out, "\n{told}")?;
    }
    if !missed.is_empty() {
        writeln!(out, "\nFAILED: never found: {}.", missed.join(", "))?;
        return Ok(false);
    }
    // That a planted defect was found is what should be.
    writeln!(out, "\nEach was found.")?;
    Ok(true)
}

pub(super) fn bench(tier: Tier, args: &Bench, out: &mut dyn Write) -> Held {
    let measured = thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs)
            .map(|_| scope.spawn(|| bench::measure(tier, args.count)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(measured) => measured,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<Vec<_>, _>>()
    });
    let speeds = match measured {
        Ok(speeds) => speeds,
        Err(failure) => {
            writeln!(out, "{failure}")?;
            return Ok(false);
        }
    };
    let workload = match tier {
        Tier::Core => "200 presences, 60",
        Tier::Full => "50 clients that change every 5 s, 120",
    };
    writeln!(
        out,
        "5 nodes, {workload} simulated seconds with faults, then the healing; every invariant after every \
         event\n"
    )?;
    let rows: Vec<[String; 5]> = speeds
        .iter()
        .enumerate()
        .map(|(core, speed)| {
            [
                core.to_string(),
                HumanCount(speed.seeds).to_string(),
                format!("{:.0}", speed.seeds_per_second()),
                HumanCount(speed.events_per_second() as u64).to_string(),
                format!(
                    "{:.0} s",
                    speed.simulated.as_secs_f64() / speed.elapsed.as_secs_f64()
                ),
            ]
        })
        .collect();
    let head = ["core", "seeds", "seeds/s", "events/s", "simulated a second"];
    out.write_all(table(head, &rows).as_bytes())?;
    Ok(true)
}

/// The seeds over which healing is measured.
const SEEDS: u64 = 100;

pub(super) fn convergence(args: &Converged, out: &mut dyn Write) -> Held {
    let now = match Convergence::measure(SEEDS, jobs(None)) {
        Ok(now) => now,
        Err(failure) => {
            writeln!(out, "{failure}")?;
            return Ok(false);
        }
    };
    if args.accept {
        file::write(&args.file, &now.to_json())?;
        writeln!(out, "{} says now:\n{}", args.file.display(), now.to_json())?;
        return Ok(true);
    }
    let named = |wrong: String| Stopped::Usage(format!("{}: {wrong}", args.file.display()));
    let before = fs::read_to_string(&args.file).map_err(|error| named(error.to_string()))?;
    let changes = now.changes(&Convergence::parse(&before).map_err(named)?);
    out.write_all(now.to_json().as_bytes())?;
    for change in &changes {
        writeln!(out, "{change}")?;
    }
    if !changes.is_empty() {
        writeln!(
            out,
            "If that is as it should be: cargo run --release -p sim -- convergence --accept"
        )?;
    }
    Ok(changes.is_empty())
}

/// A bar where there is a terminal, and nothing where there is none.
fn bar(length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => "{bar:40} {human_pos}/{human_len}, {per_sec}, {eta} to go",
        None => "{spinner} {human_pos} runs, {per_sec}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is sound");
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(style)
}
