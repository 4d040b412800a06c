//! Clients that are told to do anything at any time.

use std::collections::BTreeSet;

use super::*;

const CLIENTS: usize = 8;
const TOPICS: [&str; 3] = ["conf:a", "conf:b", "conf:c"];
const KEYS: [&str; 2] = ["x", "y"];

/// What a client was told to have: its keys by topic.
type Wants = BTreeMap<&'static str, BTreeSet<&'static str>>;

/// One order, and what the client wants after it.
fn order(random: &mut fastrand::Rng, wants: &mut Wants) -> Order {
    let name = TOPICS[random.usize(..TOPICS.len())];
    let key_name = KEYS[random.usize(..KEYS.len())];
    let (topic, key) = (name.to_owned(), key_name.to_owned());
    match random.u32(..20) {
        0..7 => {
            wants.entry(name).or_default().insert(key_name);
            Order::Track { topic, key }
        }
        7..11 => Order::Update { topic, key },
        11..14 => {
            if let Some(keys) = wants.get_mut(name) {
                keys.remove(key_name);
            }
            Order::Untrack { topic, key }
        }
        14..16 => {
            wants.remove(name);
            Order::Leave { topic }
        }
        16 => {
            wants.entry(name).or_default();
            Order::Join { topic }
        }
        17 => Order::Reset,
        18 => Order::Move {
            node: random.usize(..2),
        },
        _ => Order::Slow {
            per_message: Duration::from_millis(random.u64(..500)),
            lasts: Duration::from_secs(5),
        },
    }
}

/// The last list of a topic that a client had since it joined it last, and the node that it is at.
fn last(nodes: &Nodes, client: usize, wanted: &str) -> (usize, Vec<u32>) {
    let (mut at, mut list) = (0, Vec::new());
    for (_, said) in nodes
        .said
        .lock()
        .unwrap()
        .iter()
        .filter(|(of, _)| *of == client)
    {
        match said {
            Said::Connected { node } => at = *node,
            Said::List {
                topic,
                numbers,
                synced: true,
                ..
            } if topic == wanted => {
                list.clone_from(numbers);
            }
            _ => {}
        }
    }
    (at, list)
}

async fn run_seed(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    // From none to so long that most changes go out together.
    let config = Config {
        diff_pause: Duration::from_millis(random.u64(..30)),
        ..Config::default()
    };
    let nodes = Nodes::start_with(2, seed, &config);
    let mut orders = Vec::new();
    for id in 0..CLIENTS {
        orders.push(nodes.client(id, KINDS[id % KINDS.len()]));
    }
    let mut wants: [Wants; CLIENTS] = std::array::from_fn(|_| Wants::new());
    for _ in 0..400 {
        let id = random.usize(..CLIENTS);
        orders[id].send(order(&mut random, &mut wants[id])).unwrap();
        if random.bool() {
            tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*nodes.broken.lock().unwrap(), [""; 0], "seed {seed}");
    for topic in TOPICS {
        let members: Vec<_> = (0..CLIENTS)
            .filter(|&id| wants[id].contains_key(topic))
            .collect();
        for &id in &members {
            let (at, list) = last(&nodes, id, topic);
            let mut together = 0;
            for &other in &members {
                let (node, others) = last(&nodes, other, topic);
                if node == at {
                    together += wants[other][topic].len();
                    assert_eq!(list, others, "seed {seed}: {topic} of {id} and {other}");
                }
            }
            assert_eq!(list.len(), together, "seed {seed}: {topic} of {id}");
        }
    }
}

#[test]
fn whatever_is_ordered_breaks_no_rule_and_ends_in_one_list() {
    (0..40).for_each(|seed| alone(run_seed(seed)));
}
