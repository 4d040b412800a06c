//! Measures nodes that meet, and prints what it took beside the goals.
//!
//! The nodes are in this process, each with a thread of its own, and talk over TCP on this machine, at
//! the default settings. While they merge, lists and tracks are made on each and timed from outside.

mod member;
mod probe;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::latencies::Latencies;
use clap::{Parser, ValueEnum};

use self::member::{Member, Result};
use self::probe::Probe;

/// Measures nodes that meet: how long until they agree, what crosses, and what lists and tracks wait.
#[derive(Parser)]
struct Arguments {
    /// Measure this alone; all of it when none is named.
    #[arg(long, value_enum)]
    only: Vec<Case>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Ten nodes with 1,000 presences each start at once.
    Ten,
    /// Two nodes with 100,000 presences each meet.
    Two,
    /// A node takes in 1,000,000 presences of another, and half of them leave.
    Million,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments { only } = Arguments::parse();
    let wants = |case| only.is_empty() || only.contains(&case);
    let measured = || -> Result<()> {
        if wants(Case::Ten) {
            ten()?;
        }
        if wants(Case::Two) {
            two()?;
        }
        if wants(Case::Million) {
            million()?;
        }
        Ok(())
    };
    match measured() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ten() -> Result<()> {
    let members: Vec<_> = (0..10)
        .map(|n| Member::start(&format!("n{n}")))
        .collect::<Result<_>>()?;
    for member in &members {
        member.fill(10, 1_000)?;
    }
    let addresses: Vec<_> = members.iter().map(Member::address).collect();
    let start = Instant::now();
    for member in &members {
        member.join(&addresses)?;
    }
    let agreed = agree(&members, |presences| presences >= 10_000)?;
    let periods = agreed.duration_since(start).as_secs_f64() / 1.5;
    println!("ten nodes with 1,000 presences each, started at once");
    println!("  until they agree            {periods:>8.1} periods   (goal: 5)");
    Ok(())
}

fn two() -> Result<()> {
    const EACH: usize = 100_000;
    let members = [Member::start("a")?, Member::start("b")?];
    for member in &members {
        member.fill(1_000, EACH)?;
    }
    settle();
    let probes: Vec<_> = members.iter().map(Probe::start).collect();
    let start = Instant::now();
    members[0].join(&[])?;
    members[1].join(&[members[0].address()])?;
    let took = agree(&members, |presences| presences >= 2 * EACH)?
        .duration_since(start)
        .as_secs_f64();
    let bytes: u64 = members.iter().map(Member::sent_bytes).sum();
    println!("two nodes with 100,000 presences each meet");
    println!("  until they agree            {took:>8.2} s         (goal: 3)");
    let mib = bytes as f64 / f64::from(1 << 20);
    println!("  sent by both                {mib:>8.1} MiB");
    for (name, probe) in ["a", "b"].iter().zip(probes) {
        report(&format!("on {name}"), &probe.end()?);
    }
    println!("                                               (goal: the worst list 5 ms)");
    Ok(())
}

fn million() -> Result<()> {
    const ENTRIES: usize = 1_000_000;
    const TOPICS: usize = 10_000;
    let members = [Member::start("a")?, Member::start("b")?];
    members[0].fill(TOPICS, ENTRIES)?;
    members[1].fill(10, 1_000)?;
    let idle = Probe::start(&members[1]);
    settle();
    let idle = idle.end()?;
    let probe = Probe::start(&members[1]);
    let start = Instant::now();
    members[0].join(&[])?;
    members[1].join(&[members[0].address()])?;
    let took = agree(&members, |presences| presences >= ENTRIES + 1_000)?
        .duration_since(start)
        .as_secs_f64();
    println!("a node takes in 1,000,000 presences of another");
    println!("  until it has them           {took:>8.2} s");
    report("before", &idle);
    report("meanwhile", &probe.end()?);
    let probe = Probe::start(&members[1]);
    let start = Instant::now();
    members[0].thin(TOPICS, ENTRIES)?;
    // One may be tracked by the probe.
    let took = agree(&members, |presences| presences <= ENTRIES / 2 + 1_001)?
        .duration_since(start)
        .as_secs_f64();
    println!("half of them leave");
    println!("  until both have heard it    {took:>8.2} s");
    report("meanwhile", &probe.end()?);
    Ok(())
}

/// Lets a period end, so that nodes have told what was tracked, if only to themselves.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

/// Waits until all members hold as many presences as they must and hide none; when that was.
fn agree(members: &[Member], must: impl Fn(usize) -> bool) -> Result<Instant> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        let mut agreed = true;
        for member in members {
            agreed &= member.holds(&must, members.len() - 1)?;
        }
        if agreed {
            return Ok(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("they don't agree within two minutes".into())
}

fn report(when: &str, latencies: &[(&'static str, Latencies)]) {
    for (what, latencies) in latencies {
        let [median, p99, worst] = [0.5, 0.99, 1.0].map(|part| latencies.at(part));
        let count = latencies.count();
        println!(
            "  {when:<9} {what:<17} median {median:>7.3} ms, p99 {p99:>7.3} ms, worst {worst:>7.3} ms, of {count}"
        );
    }
}
