//! Runs simulations.
use sim::world::{Options, run};
fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (a, b) = (args.next().unwrap(), args.next().unwrap());
    if std::env::var("SAB").is_ok() {
        for &s in sim::sabotage::Sabotage::ALL {
            let mut acted = 0;
            let mut found = None;
            for seed in a..b {
                let outcome = run(
                    &sim::generate::random(seed),
                    Options {
                        sabotage: Some(s),
                        trace: false,
                    },
                );
                acted += outcome.sabotaged;
                if let Some(f) = outcome.failure {
                    found = Some((seed, f.invariant));
                    break;
                }
            }
            println!("{s:20} acted {acted:6} {found:?}");
        }
        return;
    }
    if std::env::var("TR").is_ok() {
        let outcome = run(
            &sim::generate::random(a),
            Options {
                sabotage: None,
                trace: true,
            },
        );
        print!("{}", outcome.trace.unwrap());
        if let Some(f) = outcome.failure {
            println!("{f}");
        }
        return;
    }
    let mut coverage = sim::coverage::Coverage::default();
    let start = std::time::Instant::now();
    let (mut events, mut failed) = (0, 0);
    for seed in a..b {
        let outcome = run(&sim::generate::random(seed), Options::default());
        events += outcome.events;
        if let Some(f) = outcome.failure {
            failed += 1;
            if failed <= 12 {
                println!("seed {seed}: {f}");
            }
        }
        coverage.merge(&outcome.coverage);
    }
    println!("{coverage:#?} missing {:?}", coverage.missing());
    println!(
        "{} seeds {events} events {:?} failed {failed}",
        b - a,
        start.elapsed()
    );
}
