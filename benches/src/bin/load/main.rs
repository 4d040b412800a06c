//! Measures what the server costs under load, and prints it beside the goals.
//!
//! The server runs in a process of its own, its CPU time and memory as the system counts them (Linux
//! only); the clients are in this one. What is compared takes turns, and the figures are medians.

mod client;
mod server;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::client::{Client, count};
use self::server::{FRAME, Memory, Role, Server};

/// Measures what the server costs: CPU a frame, memory a socket, many joins at once.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Measure this alone; all of it when none is named.
    #[arg(long, value_enum)]
    only: Vec<Load>,
    /// How many clients sit idle. Each needs a file descriptor in both processes.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
}

/// As in the server's own program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// 400 broadcasts at once to 500 sockets.
    Burst,
    /// One broadcast to 500 sockets, beside as many bare writes.
    Lone,
    /// 500 sockets join one room at once.
    Join,
    /// Idle sockets with one presence each.
    Idle,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const SOCKETS: usize = 500;
const BURST: usize = 400;

/// Its broadcast is a frame of 122 bytes.
const SHOUT: &str = concat!(
    r#"["1",null,"conf:burst","shout",{"body":""#,
    "so it is with those who are said to be here, and there, and everywhere at once",
    r#""}]"#
);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.role {
        Some(role) => role.play().map(|()| true).map_err(Into::into),
        None => measure(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the table; whether every goal was met.
#[tokio::main(flavor = "current_thread")]
async fn measure(arguments: &Arguments) -> Result<bool> {
    let wants = |load| arguments.only.is_empty() || arguments.only.contains(&load);
    println!("{:<66} {:>10}  {:<10} ", "what", "measured", "goal");
    let mut met = true;
    if wants(Load::Burst) {
        met &= burst().await?;
    }
    if wants(Load::Lone) {
        met &= lone().await?;
    }
    if wants(Load::Join) {
        met &= join().await?;
    }
    if wants(Load::Idle) {
        enough_descriptors(arguments.idle)?;
        met &= idle(arguments.idle, 100).await?;
        met &= idle(arguments.idle, 1).await?;
    }
    Ok(met)
}

async fn burst() -> Result<bool> {
    let server = Server::start(Role::Serve)?;
    let mut clients = joined(&server, "conf:burst").await?;
    let mut figures = Vec::new();
    for _ in 0..5 {
        let before = settled(&server).await?;
        clients[0].send([SHOUT; BURST]).await?;
        try_join_all(clients.iter_mut().map(|client| client.skip(BURST))).await?;
        let spent = settled(&server).await? - before;
        figures.push(spent.as_secs_f64() * 1e6 / (SOCKETS * BURST) as f64);
    }
    let what = format!("{BURST} broadcasts at once to {SOCKETS} sockets, CPU a frame");
    Ok(print(&what, median(figures), "µs", Some(0.5)))
}

async fn lone() -> Result<bool> {
    let server = Server::start(Role::Serve)?;
    let mut clients = joined(&server, "conf:burst").await?;
    let bare = Server::start(Role::Bare)?;
    let mut orders = TcpStream::connect(bare.address).await?;
    orders.write_all(&(SOCKETS as u32).to_be_bytes()).await?;
    let mut streams = Vec::new();
    for _ in 0..SOCKETS {
        streams.push(TcpStream::connect(bare.address).await?);
    }
    let (mut ours, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..50 {
        let before = settled(&bare).await?;
        orders.write_all(&[1]).await?;
        try_join_all(streams.iter_mut().map(async |stream| {
            let mut frame = FRAME;
            stream.read_exact(&mut frame).await
        }))
        .await?;
        let writes = (settled(&bare).await? - before).as_secs_f64() * 1e6 / SOCKETS as f64;
        let before = settled(&server).await?;
        clients[0].send([SHOUT]).await?;
        try_join_all(clients.iter_mut().map(|client| client.skip(1))).await?;
        let frames = (settled(&server).await? - before).as_secs_f64() * 1e6 / SOCKETS as f64;
        ours.push(frames);
        beside.push(writes);
        ratios.push(frames / writes);
    }
    let sockets = SOCKETS;
    print(
        &format!("{sockets} bare writes, CPU each"),
        median(beside),
        "µs",
        None,
    );
    let what = format!("a lone broadcast to {sockets} sockets, CPU a frame");
    print(&what, median(ours), "µs", None);
    let what = "the broadcast beside the bare writes";
    Ok(print(what, median(ratios), "×", Some(1.5)))
}

async fn join() -> Result<bool> {
    let mut all_met = true;
    for at_once in [true, false] {
        let (mut figures, mut frames) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let server = Server::start(Role::Serve)?;
            let mut clients = open(&server, SOCKETS).await?;
            let before = settled(&server).await?;
            if !at_once {
                // Each once the one before has its answer.
                for (at, client) in clients.iter_mut().enumerate() {
                    client.send([&*join_room("room:1", at)]).await?;
                    client.wait().await?;
                }
            }
            let told = clients.iter_mut().enumerate().map(async |(at, client)| {
                if at_once {
                    client.send([&*join_room("room:1", at)]).await?;
                }
                see(client, SOCKETS).await
            });
            let told = try_join_all(told).await?;
            figures.push((settled(&server).await? - before).as_secs_f64());
            frames.push(told.iter().sum::<usize>() as f64 / SOCKETS as f64);
        }
        let how = if at_once { "at once" } else { "one by one" };
        let what = format!("{SOCKETS} sockets join one room {how}, CPU in all");
        all_met &= print(&what, median(figures), "s", Some(0.5));
        print("  frames to each", median(frames), "", None);
    }
    Ok(all_met)
}

/// Memory of sockets that joined one of a number of rooms.
async fn idle(sockets: usize, rooms: usize) -> Result<bool> {
    let server = Server::start(Role::Serve)?;
    // A few come and go, so that the empty server has what it needs to serve at all.
    let mut clients = open(&server, 10).await?;
    for (at, client) in clients.iter_mut().enumerate() {
        client.send([&*join_room("room:0", at)]).await?;
    }
    try_join_all(clients.iter_mut().map(|client| see(client, 10))).await?;
    drop(clients);
    settled(&server).await?;
    let empty = server.memory(Memory::Now)?;

    let mut clients = open(&server, sockets).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let connected = server.memory(Memory::Now)?;
    let joins = clients.iter_mut().enumerate().map(async |(at, client)| {
        let topic = format!("room:{}", at % rooms + 1);
        client.send([&*join_room(&topic, at)]).await?;
        // As many as there are remainders equal to this one.
        see(client, (sockets - at % rooms).div_ceil(rooms)).await
    });
    try_join_all(joins).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = |of| Ok::<_, std::io::Error>((server.memory(of)? - empty) as f64 / sockets as f64);
    let rooms = match rooms {
        1 => "one room".to_owned(),
        rooms => format!("{rooms} rooms"),
    };
    let what = format!("{sockets} idle sockets with a presence each in {rooms}, memory of one");
    let is_met = print(&what, each(Memory::Now)?, "KiB", Some(10.0));
    let before = (connected - empty) as f64 / sockets as f64;
    print("  before they join", before, "KiB", None);
    print("  at the peak", each(Memory::Peak)?, "KiB", None);
    Ok(is_met)
}

/// Clients that have just connected.
async fn open(server: &Server, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    // No more at once than a listener has room for.
    while clients.len() < count {
        let more = 100.min(count - clients.len());
        clients.extend(try_join_all((0..more).map(|_| Client::open(server.address))).await?);
    }
    Ok(clients)
}

/// Clients that have all joined one topic.
async fn joined(server: &Server, topic: &str) -> Result<Vec<Client>> {
    let mut clients = open(server, SOCKETS).await?;
    let join = format!(r#"["1","1","{topic}","phx_join",{{}}]"#);
    for client in &mut clients {
        client.send([&*join]).await?;
    }
    try_join_all(clients.iter_mut().map(|client| client.skip(1))).await?;
    Ok(clients)
}

fn join_room(topic: &str, at: usize) -> String {
    format!(r#"["1","1","{topic}","phx_join",{{"name":"user {at}"}}]"#)
}

/// Reads until the client knows of `people`: of each once, be it by the state or by a diff after it.
/// Returns how many frames that took.
async fn see(client: &mut Client, people: usize) -> std::io::Result<usize> {
    let (mut frames, mut seen, mut has_state) = (0, 0, false);
    client
        .until(|frame| {
            frames += 1;
            let is_state = count(&frame[..frame.len().min(60)], b"\"presence_state\"") > 0;
            has_state |= is_state;
            if has_state {
                seen += count(frame, b"\"phx_ref\"");
            }
            seen >= people
        })
        .await?;
    if seen > people {
        let what = format!("a client was told of {seen} people where there are {people}");
        return Err(std::io::Error::other(what));
    }
    Ok(frames)
}

/// The CPU time of a server that has nothing to do any more.
async fn settled(server: &Server) -> Result<Duration> {
    tokio::time::sleep(Duration::from_millis(30)).await;
    Ok(server.cpu()?)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Prints a line of the table; whether the goal was met.
fn print(what: &str, figure: f64, unit: &str, at_most: Option<f64>) -> bool {
    let is_met = at_most.is_none_or(|goal| figure <= goal);
    let figure = format!("{figure:.2} {unit}");
    let goal = at_most.map_or(String::new(), |goal| format!("≤ {goal} {unit}"));
    let verdict = match at_most {
        None => "",
        Some(_) if is_met => "met",
        Some(_) => "missed",
    };
    println!("{what:<66} {figure:>10}  {goal:<10} {verdict}");
    is_met
}

fn enough_descriptors(sockets: usize) -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    if soft.is_some_and(|soft: usize| soft < sockets + 100) {
        let wanted = sockets + 100;
        return Err(format!("{sockets} idle sockets need `ulimit -n {wanted}` or more").into());
    }
    Ok(())
}
