//! A way between nodes that can hang, and say what nobody said.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a node.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct State {
    to: Option<SocketAddr>,
    hangs: bool,
    /// What was said in the name of dialers, how often.
    injected: (Vec<u8>, u32),
    /// How often all connections were cut.
    cuts: u32,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::<State>::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(stream, shared.subscribe()));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.address
    }

    /// Passes connections on to there; before, they hang.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        self.state.send_modify(|state| state.to = Some(to));
    }

    /// Whether nothing passes, while connections stay open and are made.
    pub(crate) fn hang(&self, hangs: bool) {
        self.state.send_modify(|state| state.hangs = hangs);
    }

    /// Cuts all connections; new ones pass.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Says this in the name of each node that has dialled and is connected.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.state
            .send_modify(|state| state.injected = (bytes.to_vec(), state.injected.1 + 1));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(dialer: TcpStream, state: watch::Receiver<State>) {
    let is_open = |state: &State| state.to.is_some() && !state.hangs;
    let cuts = state.borrow().cuts;
    let mut cut = state.clone();
    let to = match state.clone().wait_for(is_open).await {
        Ok(state) => state.to.unwrap(),
        Err(_) => return,
    };
    let Ok(acceptor) = TcpStream::connect(to).await else {
        return;
    };
    let (from_dialer, to_dialer) = tokio::io::split(dialer);
    let (from_acceptor, to_acceptor) = tokio::io::split(acceptor);
    tokio::select! {
        () = copy(from_dialer, to_acceptor, state.clone(), true) => {}
        () = copy(from_acceptor, to_dialer, state, false) => {}
        _ = cut.wait_for(|state| state.cuts > cuts) => {}
    }
}

async fn copy(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    mut state: watch::Receiver<State>,
    is_injected: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut injected = state.borrow().injected.1;
    loop {
        let State {
            hangs,
            injected: (bytes, count),
            ..
        } = state.borrow_and_update().clone();
        if is_injected && count > injected {
            injected = count;
            let _ = to.write_all(&bytes).await;
        }
        let read = tokio::select! {
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer), if !hangs => read,
        };
        match read {
            Ok(bytes) if bytes > 0 && to.write_all(&buffer[..bytes]).await.is_ok() => {}
            _ => return,
        }
    }
}
