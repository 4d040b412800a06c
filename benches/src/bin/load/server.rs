//! The servers that are measured: each a process of its own, started from this same program.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use presence_server::app::{self, Tokens};
use presence_server::env::{Environment as _, System};
use presence_server::node::{Config, Node};

/// What a process of this program may be.
#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Role {
    /// The presence server, with the application of the conformance tests.
    Serve,
    /// The least that could be done: one thread that writes the same bytes to every socket.
    Bare,
}

impl Role {
    /// Becomes it; returns when its standard input is closed.
    pub(crate) fn play(self) -> io::Result<()> {
        match self {
            Self::Serve => serve(),
            Self::Bare => bare(),
        }
    }
}

#[tokio::main]
async fn serve() -> io::Result<()> {
    let system = System::new();
    let listener = system.listen(([127, 0, 0, 1], 0).into()).await?;
    println!("{}", listener.local_addr()?);
    let node =
        Node::start(Arc::new(system.clone()), Config::default()).expect("the defaults are sound");
    let tokens = Tokens::new(&app::conformance::secret_key_base()).map_err(io::Error::other)?;
    let router = app::conformance(&node, tokens);
    // The last word of whoever started it: its end of the pipe closes, however it ends.
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0)
    });
    presence_server::serve::serve(&node, listener, router).await;
    Ok(())
}

/// Takes connections, then writes [`FRAME`] to all but the first each time that the first says so.
fn bare() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    let (mut orders, _) = listener.accept()?;
    let mut count = [0; 4];
    orders.read_exact(&mut count)?;
    let mut streams = Vec::new();
    for _ in 0..u32::from_be_bytes(count) {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let mut order = [0];
    while orders.read(&mut order)? > 0 {
        for stream in &mut streams {
            stream.write_all(&FRAME)?;
        }
    }
    Ok(())
}

/// As many bytes as a frame of the bursts has on the wire.
pub(crate) const FRAME: [u8; 124] = [b'x'; 124];

/// A process that is measured. It ends when this is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(role: Role) -> io::Result<Self> {
        let name = match role {
            Role::Serve => "serve",
            Role::Bare => "bare",
        };
        let mut process = Command::new(std::env::current_exe()?)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse();
        let address = address.map_err(|_| io::Error::other("the server did not start"))?;
        Ok(Self { process, address })
    }

    /// The time that its threads have run.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let run = stat.split(' ').next().and_then(|run| run.parse().ok());
            nanoseconds += run.unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its resident memory in KiB, now or at its peak.
    pub(crate) fn memory(&self, of: Memory) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let name = match of {
            Memory::Now => "VmRSS:",
            Memory::Peak => "VmHWM:",
        };
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.ok_or_else(|| io::Error::other("the system does not tell a process's memory"))
    }
}

/// When.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    Now,
    Peak,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
