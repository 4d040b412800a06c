//! Shrinking a history to the steps that matter.

use super::super::tracker::Replicas as _;
use super::super::tracker::history::{History, Op, Step};
use super::model::Model;

/// The shortest history found by leaving out steps of `history`, for which `fails` still holds.
///
/// What the steps that are left must give is computed anew; those that make no sense any more, such as
/// the leave of what no longer joins, go too. (After Zeller and Hildebrandt, *Simplifying and isolating
/// failure-inducing input*, 2002.)
pub(super) fn shrink(history: &History, fails: impl Fn(&History) -> bool) -> History {
    let mut shortest = history.clone();
    let mut size = shortest.steps.len();
    while size > 0 {
        let mut from = 0;
        while from < shortest.steps.len() {
            let shorter = without(&shortest, from, size);
            if shorter.steps.len() < shortest.steps.len() && fails(&shorter) {
                shortest = shorter;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    without_bystanders(&shortest, fails)
}

/// `history` without `size` steps from `from` on.
fn without(history: &History, from: usize, size: usize) -> History {
    let left = history.steps.iter().enumerate();
    let left = left.filter(|(at, _)| !(from..from + size).contains(at));
    record(
        &history.replicas,
        left.map(|(_, Step { at, op, .. })| (at.as_str(), op.clone())),
    )
}

/// Leaves out the replicas that do nothing.
fn without_bystanders(history: &History, fails: impl Fn(&History) -> bool) -> History {
    let mut replicas = history.replicas.clone();
    replicas.retain(|name| history.steps.iter().any(|step| step.at == *name));
    let steps = history.steps.iter().map(|Step { at, op, .. }| {
        let mut op = op.clone();
        if let Op::Extract { context, .. } = &mut op {
            context.retain(|name, _| replicas.contains(name));
        }
        (at.as_str(), op)
    });
    let names_another = |op: &Op| match op {
        Op::Up { replica } | Op::Down { replica } | Op::Remove { replica } => {
            !replicas.contains(replica)
        }
        Op::Extract { asker, .. } => !replicas.contains(asker),
        _ => false,
    };
    let shorter = record(&replicas, steps.filter(|(_, op)| !names_another(op)));
    if fails(&shorter) {
        shorter
    } else {
        history.clone()
    }
}

/// The operations that make sense, with what the model says of them.
fn record<'a>(replicas: &[String], ops: impl Iterator<Item = (&'a str, Op)>) -> History {
    let mut model = Model::new(replicas);
    let mut steps = Vec::new();
    for (at, op) in ops {
        if !model.allows(at, &op) {
            continue;
        }
        if let Ok(told) = model.take(at, &op) {
            let at = at.to_owned();
            steps.push(Step { at, op, told });
        }
    }
    History {
        replicas: replicas.to_vec(),
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tracker::run;
    use super::super::generate::generate;
    use super::super::model::Fault;
    use super::*;

    #[test]
    fn a_failing_history_shrinks_to_a_few_steps_that_still_fail() {
        for (fault, most) in [
            (Fault::ForgetsLeftAhead, 14),
            (Fault::LaterArrivalWins, 14),
            (Fault::RemembersRemoved, 10),
        ] {
            let fails = |history: &History| {
                run(history, &mut Model::with_fault(&history.replicas, fault)).is_some()
            };
            let long = (0..).map(generate).find(|history| fails(history)).unwrap();
            let short = shrink(&long, fails);
            println!("{fault:?}: {}", short.to_json());
            assert!(fails(&short));
            assert!(short.steps.len() <= most, "{fault:?}: {}", short.to_json());
            assert!(History::read(&short.to_json()).is_ok());
        }
    }
}
