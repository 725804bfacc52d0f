//! The backends: echo servers in this process, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meshwork::Random;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::echo::{self, Behaviour, Conduct};

/// How the backends call themselves; the order is that of the ports in the files.
pub(super) const NAMES: [&str; 3] = ["v1-a", "v1-b", "v2"];

/// One backend.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    behaviour: Arc<Behaviour>,
}

/// All of them; they end with this.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) all: [Backend; 3],
    _servers: JoinSet<anyhow::Result<usize>>,
}

impl Backends {
    /// Starts all three on free ports.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let mut servers = JoinSet::new();
        let [one, two, three] = NAMES;
        let all = [
            Backend::start(one, &mut servers).await?,
            Backend::start(two, &mut servers).await?,
            Backend::start(three, &mut servers).await?,
        ];
        Ok(Self {
            all,
            _servers: servers,
        })
    }

    pub(super) fn ports(&self) -> [u16; 3] {
        self.all.each_ref().map(|backend| backend.address.port())
    }
}

impl Backend {
    async fn start(
        name: &'static str,
        servers: &mut JoinSet<anyhow::Result<usize>>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen on a free port of 127.0.0.1")?;
        let address = listener.local_addr()?;
        let behaviour = Arc::new(Behaviour::new(Conduct::default(), Random::from_entropy()));
        let options = echo::Options {
            name: name.into(),
            behaviour: behaviour.clone(),
            drain: Duration::ZERO,
        };
        servers.spawn(echo::serve(listener, options, std::future::pending()));
        Ok(Self {
            name,
            address,
            behaviour,
        })
    }

    /// From here on it behaves like this.
    pub(super) fn behave(&self, conduct: Conduct) {
        self.behaviour.change(|current| *current = conduct);
    }

    /// What it does, in a word or two.
    pub(super) fn conduct(&self) -> String {
        let conduct = self.behaviour.conduct();
        if conduct == Conduct::default() {
            return "answers".to_owned();
        }
        if conduct.delay > Duration::ZERO {
            return "hangs".to_owned();
        }
        match conduct.fail_every {
            Some(every) => format!("fails 1 of {every}"),
            None => "fails all".to_owned(),
        }
    }
}
