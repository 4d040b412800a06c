//! The command line.

mod file;
mod many;
mod one;
mod smallest;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sim::case::{Case, Family};
use sim::coverage::Counted;
use sim::sabotage::Sabotage;
use sim::scenarios;
use sim::tier::Tier;

/// Runs clusters of presence nodes and their clients from a seed, breaks their network and their nodes,
/// and checks after everything that happens that each lists what it must.
///
/// Without a command it runs one random seed and tells what happened.
///
/// It exits with 0 if all held, with 1 if an invariant broke, and with 2 if it was called wrongly.
#[derive(Parser)]
#[command(name = "sim", version, max_term_width = 100)]
struct Cli {
    /// What is simulated: "full", the node that ships and its clients, or "core", its trackers alone,
    /// thousands of clusters a minute.
    #[arg(long, global = true, value_name = "TIER", value_parser = tier, default_value_t = Tier::Full)]
    tier: Tier,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed, the same each time, and tells what happened.
    Run(Run),
    /// Runs many seeds on all cores, up to the first that fails.
    Sweep(Sweep),
    /// Runs a saved schedule, or plays the journal of a node.
    Replay(Replay),
    /// Makes a failing schedule as small as can be, and a test of it.
    Shrink(Shrink),
    /// Lists the named scenarios and the rules that they put to the test.
    Scenarios,
    /// Draws a run: a lane for each node, its lives, faults, and where its view was not the truth.
    Trace(Trace),
    /// Plants one defect at a time, and tells after how many seeds it is found.
    Sabotage(Sabotaged),
    /// Measures how many seeds a second a core runs.
    Bench(Bench),
    /// Compares how long clusters take to agree with what is kept.
    Convergence(Converged),
}

/// Which schedule.
#[derive(Args)]
#[group(skip)]
struct Subject {
    /// The seed, of a random schedule or of the scenario.
    #[arg(long, value_name = "N", required_unless_present = "scenario")]
    seed: Option<u64>,
    /// A named scenario.
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<Family>,
    /// A defect to plant.
    #[arg(long, value_name = "ID", value_parser = sabotage)]
    sabotage: Option<Sabotage>,
}

impl Subject {
    fn case(&self, tier: Tier) -> Case {
        let family = self.scenario.unwrap_or(Family::Swarm);
        Case::new(tier, family, self.seed.unwrap_or(0), self.sabotage)
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    subject: Subject,
    /// Prints all that happens, line by line.
    #[arg(long)]
    print_trace: bool,
    /// Writes the schedule, as JSON.
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Runs it in two processes, and names the first event that differs.
    #[arg(long, conflicts_with = "print_trace")]
    twice: bool,
}

#[derive(Args)]
struct Sweep {
    /// The seeds, the last not among them. (With --until-covered they begin with A, and B is the limit.)
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..1000",
        default_value_if("until_covered", "true", "0.."))]
    seeds: Seeds,
    /// Threads; all cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Runs a scenario with each seed instead of the random schedules; "all" for all. More than once for
    /// more.
    #[arg(long, value_name = "NAME", value_parser = scenario_or_all)]
    scenario: Vec<Scenarios>,
    /// Fails if anything that is counted never happened.
    #[arg(long)]
    require_coverage: bool,
    /// Goes on until everything that is counted has happened.
    #[arg(long)]
    until_covered: bool,
}

#[derive(Args)]
struct Replay {
    /// A schedule, as JSON, or a journal.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Prints all that happens, line by line.
    #[arg(long)]
    print_trace: bool,
    /// A defect to plant.
    #[arg(long, value_name = "ID", value_parser = sabotage)]
    sabotage: Option<Sabotage>,
}

#[derive(Args)]
struct Shrink {
    /// A schedule, as JSON.
    #[arg(value_name = "FILE", required_unless_present_any = ["seed", "scenario"],
        conflicts_with_all = ["seed", "scenario"])]
    file: Option<PathBuf>,
    /// The seed, of a random schedule or of the scenario.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A named scenario.
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<Family>,
    /// A defect to plant.
    #[arg(long, value_name = "ID", value_parser = sabotage)]
    sabotage: Option<Sabotage>,
    /// Keeps a schedule that holds and in which this happens, in place of one that fails.
    #[arg(long, value_name = "STATE", value_parser = counted, conflicts_with = "sabotage")]
    reach: Option<Counted>,
    /// Where the smallest is written; named after the seed by default.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Runs at the most: 20,000 by default, or 1,000 of whole nodes.
    #[arg(long, value_name = "N")]
    budget: Option<u64>,
}

#[derive(Args)]
struct Trace {
    /// A schedule, as JSON.
    #[arg(value_name = "FILE", required_unless_present_any = ["seed", "scenario"],
        conflicts_with_all = ["seed", "scenario"])]
    file: Option<PathBuf>,
    /// The seed, of a random schedule or of the scenario.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A named scenario.
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<Family>,
    /// A defect to plant.
    #[arg(long, value_name = "ID", value_parser = sabotage)]
    sabotage: Option<Sabotage>,
    /// Where the page is written.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
struct Sabotaged {
    /// The seeds, the last not among them.
    #[arg(long, value_name = "A..B", value_parser = bounded_range, default_value = "0..500")]
    seeds: Seeds,
    /// Threads; all cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Plants this defect only, and tells the failure that it leads to.
    #[arg(long, value_name = "ID", value_parser = sabotage)]
    only: Option<Sabotage>,
}

#[derive(Args)]
struct Bench {
    /// Seeds of the workload.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Threads, each with a core of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

#[derive(Args)]
struct Converged {
    /// Keeps what was measured.
    #[arg(long)]
    accept: bool,
    /// Where it is kept.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/convergence.json"))]
    file: PathBuf,
}

/// From a seed up to another.
#[derive(Clone, Copy)]
struct Seeds {
    first: u64,
    end: Option<u64>,
}

#[derive(Clone)]
enum Scenarios {
    One(Family),
    All,
}

/// Why a command did not come to its end.
enum Stopped {
    /// It was called wrongly: what, and where.
    Usage(String),
    /// Nobody reads what it writes, or it can't be written.
    Output(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Whether all held.
type Held = Result<bool, Stopped>;

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let tier = cli.tier;
    let mut out = io::stdout().lock();
    let held = match &cli.command {
        None => one::random(tier, &mut out),
        Some(Command::Run(run)) => one::run(tier, run, &mut out),
        Some(Command::Sweep(sweep)) => many::sweep(tier, sweep, &mut out),
        Some(Command::Replay(replay)) => file::replay(tier, replay, &mut out),
        Some(Command::Shrink(shrink)) => smallest::shrink(tier, shrink, &mut out),
        Some(Command::Scenarios) => many::scenarios(&mut out),
        Some(Command::Trace(trace)) => one::draw(tier, trace, &mut out),
        Some(Command::Sabotage(sabotaged)) => many::sabotage(tier, sabotaged, &mut out),
        Some(Command::Bench(bench)) => many::bench(tier, bench, &mut out),
        Some(Command::Convergence(converged)) => many::convergence(converged, &mut out),
    };
    match held.and_then(|held| out.flush().map(|()| held).map_err(Stopped::Output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Whoever read has seen enough.
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Stopped::Output(error)) => {
            eprintln!("error: writing: {error}");
            ExitCode::from(2)
        }
        Err(Stopped::Usage(what)) => {
            eprintln!("error: {what}");
            ExitCode::from(2)
        }
    }
}

/// The case of a command that takes a file, a seed or a scenario.
fn case_of(
    tier: Tier,
    file: Option<&PathBuf>,
    seed: Option<u64>,
    scenario: Option<Family>,
    sabotage: Option<Sabotage>,
) -> Result<Case, Stopped> {
    match file {
        Some(path) => Ok(Case::saved(tier, path, file::schedule(path)?, sabotage)),
        None => {
            let family = scenario.unwrap_or(Family::Swarm);
            Ok(Case::new(tier, family, seed.unwrap_or(0), sabotage))
        }
    }
}

fn scenario(name: &str) -> Result<Family, String> {
    let all = scenarios::all();
    let found = all.iter().find(|scenario| scenario.name == name);
    found
        .map(Family::from)
        .ok_or_else(|| "there is no such scenario; `sim scenarios` lists them".into())
}

fn scenario_or_all(name: &str) -> Result<Scenarios, String> {
    match name {
        "all" => Ok(Scenarios::All),
        name => scenario(name).map(Scenarios::One),
    }
}

fn tier(name: &str) -> Result<Tier, String> {
    let all = [Tier::Core, Tier::Full];
    let found = all.into_iter().find(|tier| tier.name() == name);
    found.ok_or_else(|| "there are core and full".into())
}

fn sabotage(id: &str) -> Result<Sabotage, String> {
    Sabotage::named(id).ok_or_else(|| {
        let ids: Vec<&str> = Sabotage::ALL.iter().map(|sabotage| sabotage.id()).collect();
        format!("there is no such defect; there are {}", ids.join(", "))
    })
}

fn counted(name: &str) -> Result<Counted, String> {
    let found = Counted::ALL.iter().find(|what| what.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Counted::ALL.iter().map(|what| what.name()).collect();
        format!("no such thing is counted; there are {}", names.join(", "))
    })
}

fn range(text: &str) -> Result<Seeds, String> {
    let wrong = || format!("it is A..B, two numbers, such as 0..1000, and not {text:?}");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let first = first.parse().map_err(|_| wrong())?;
    let end: Option<u64> = match end {
        "" => None,
        end => Some(end.parse().map_err(|_| wrong())?),
    };
    if end.is_some_and(|end| end <= first) {
        return Err(format!("there is no seed in {text}"));
    }
    Ok(Seeds { first, end })
}

fn bounded_range(text: &str) -> Result<Seeds, String> {
    let seeds = range(text)?;
    match seeds.end {
        Some(_) => Ok(seeds),
        None => Err("it needs an end, such as 0..500".into()),
    }
}

fn jobs(asked: Option<u16>) -> usize {
    match asked {
        Some(jobs) => usize::from(jobs),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_are_two_numbers() {
        let pair = |text| range(text).map(|seeds| (seeds.first, seeds.end));
        assert_eq!(pair("3..9"), Ok((3, Some(9))));
        assert_eq!(pair("3.."), Ok((3, None)));
        assert_eq!(pair("9..3"), Err("there is no seed in 9..3".into()));
        for wrong in ["", "3", "a..b", "..", "..3", "1..-2", "0...5"] {
            assert!(pair(wrong).unwrap_err().contains("two numbers"), "{wrong}");
        }
        assert!(bounded_range("0..").is_err());
    }
}
