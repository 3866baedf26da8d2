//! A mechanism under faults, and, to see whether anybody notices, with a flaw.

use std::io;
use std::time::Duration;

#[cfg(completion)]
use pollmark::backends::completion::{Faulty as Fated, Setup};
use pollmark::backends::conformance::Faulty;
use pollmark::backends::conformance::fault::Faults;
use pollmark::backends::{Poller, Registry, Trigger, Visitor};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Protocol;
#[cfg(completion)]
use pollmark::server::CompletionServer;
use pollmark::server::{Abilities, Config, FaultyNet, IterativeServer, Kernel, ReadinessServer, Server, ThreadServer};

use crate::planted::{Flaw, Flawed};
use crate::suite::{PATIENCE, Subject};

/// One mechanism under one plan.
pub(crate) struct Stormy {
    pub(crate) mechanism: Mechanism,
    pub(crate) registry: Registry,
    pub(crate) faults: Faults,
    pub(crate) flaw: Option<Flaw>,
}

impl Stormy {
    /// The same under other faults.
    pub(crate) fn under(&self, faults: &Faults) -> Stormy {
        let (mechanism, registry) = (self.mechanism.clone(), self.registry.clone());
        Stormy { mechanism, registry, faults: faults.clone(), flaw: self.flaw }
    }
}

impl Subject for Stormy {
    fn name(&self) -> &str {
        self.mechanism.name()
    }

    fn abilities(&self) -> Abilities {
        self.mechanism.abilities()
    }

    fn bind<P: Protocol>(&self, config: Config, protocol: P) -> io::Result<Box<dyn Server>> {
        let (faults, flaw) = (self.faults.clone(), self.flaw);
        let net = Flawed::new(FaultyNet::new(Kernel, &faults), flaw);
        let Some(trigger) = self.mechanism.trigger() else {
            return Ok(match self.abilities() {
                // It makes no calls of its own: what befalls them befalls the operations.
                #[cfg(completion)]
                Abilities { blocking: false, .. } => {
                    let setup = match self.mechanism.name() {
                        "completion-minwait" => Setup::min_wait(),
                        "completion-zc" => Setup::zero_copy(),
                        "completion-bundle" => Setup::bundles(),
                        "completion-sqpoll" => Setup::sqpoll(),
                        _ => Setup::default(),
                    };
                    let server = CompletionServer::bind(config, protocol)?.with_setup(setup);
                    Box::new(server.with_fate(Fated::new(&faults)))
                }
                Abilities { concurrent: true, .. } => Box::new(ThreadServer::bind(config, protocol)?.with_net(net)),
                _ => Box::new(IterativeServer::bind(config, protocol)?.with_net(net)),
            });
        };
        let bind = Bind { config, protocol, trigger, net, faults, flaw };
        self.registry.get(self.mechanism.family()).expect("it was listed").visit(bind)?
    }

    fn faults(&self) -> Option<&Faults> {
        Some(&self.faults)
    }

    fn patience(&self) -> Duration {
        // What a flaw makes wait for ever need not be waited for long.
        if self.flaw.is_some() { Duration::from_secs(1) } else { PATIENCE }
    }
}

/// Carries the server to be into the place where the poller's type is known.
struct Bind<Q> {
    config: Config,
    protocol: Q,
    trigger: Trigger,
    net: Flawed<FaultyNet>,
    faults: Faults,
    flaw: Option<Flaw>,
}

impl<Q: Protocol> Visitor for Bind<Q> {
    type Output = io::Result<Box<dyn Server>>;

    fn visit<P, F>(self, open: F) -> Self::Output
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
    {
        let Bind { config, protocol, trigger, net, faults, flaw } = self;
        let open = move || Ok(Flawed::new(Faulty::new(open()?, &faults), flaw));
        Ok(Box::new(ReadinessServer::bind(config, protocol, trigger, open)?.with_net(net)))
    }
}
