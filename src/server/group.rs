//! Several servers as one: a thread for each, one port, and one account. It does not know what they wait by.
//!
//! Each member is a server like any other, with loop, protocol and inbox of its own; they share no connection and no
//! lock. What they have in common is given to them with their [`Config`]: the port, the listener if there is but one,
//! and how many connections there may be in all.

use std::io;
use std::panic;
use std::thread;

use pollmark_backends::Trigger;
use pollmark_backends::poll::Poll;

use super::config::Bound;
use super::fate::{Fate, Fates};
use super::{Account, Address, Config, Control, ReadinessServer, Server, Sharing, Stats};
use crate::cpus::pin;
use crate::protocol::Echo;

/// [`Config::threads`] servers of any kind, that share a port as [`Config::sharing`] says.
///
/// They begin and end together: when one fails, all are stopped, and when one ends, all are
/// [drained](Control::drain). Each has a clone of the protocol, so [`send_to`](crate::protocol::Context::send_to) reaches the
/// connections of its own thread; those of the others are reached by their [`Post`](crate::protocol::Post).
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, Group, ReadinessServer, Server, Sharing};
/// use pollmark_backends::{Trigger, poll::Poll};
///
/// # fn main() -> std::io::Result<()> {
/// let mut config = Config::listen("127.0.0.1:0".parse()?);
/// (config.threads, config.sharing) = (2, Sharing::Handout);
/// let group = Group::bind(config, |config| {
///     Ok(Box::new(ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open)?))
/// })?;
/// let control = group.control();
/// let running = std::thread::spawn(move || Box::new(group).run_to_account());
///
/// assert_eq!(control.account()?.threads.len(), 2);
/// control.stop();
/// let account = running.join().expect("no thread panics")?;
/// assert_eq!(account.total.accepted, 0);
/// # Ok(())
/// # }
/// ```
pub struct Group {
    members: Vec<(Box<dyn Server>, Fate)>,
    /// Of each member's thread.
    cpus: Vec<Option<usize>>,
    /// Of [`Sharing::Handout`].
    acceptor: Option<(Box<dyn Server>, Fate)>,
    /// Ends what is told of the others.
    fates: Fates,
    addresses: Vec<Address>,
    control: Control,
}

impl Group {
    /// Binds the members, each by `member` with a configuration of its own.
    ///
    /// # Errors
    /// What binding one of them gives. `Unsupported` if this system does not share the connections of a port out among
    /// listeners, and that was asked for, or if threads cannot be bound to CPUs; `InvalidInput` for a CPU that is not
    /// there.
    pub fn bind(config: Config, mut member: impl FnMut(Config) -> io::Result<Box<dyn Server>>) -> io::Result<Group> {
        Group::of(config, &mut member)
    }

    /// Not for each kind of member anew.
    fn of(config: Config, member: &mut dyn FnMut(Config) -> io::Result<Box<dyn Server>>) -> io::Result<Group> {
        let (threads, sharing) = (config.threads.max(1), config.sharing);
        let cpus = config.pin.of(threads)?;
        let mut common = config.member();
        let listeners = match sharing {
            Sharing::ReusePort if threads > 1 => {
                if !common.reuse_port {
                    // Others of this user that share their port would share it with us too, unasked.
                    common.try_bind()?;
                }
                common.reuse_port = true;
                None
            }
            Sharing::ReusePort => None,
            Sharing::Shared | Sharing::Exclusive => Some(common.bind(true)?),
            Sharing::Handout => Some(Bound::default()),
        };
        common.part.exclusive = sharing == Sharing::Exclusive;

        let mut part = common.clone();
        part.part.listeners = listeners;
        let mut dealt = Vec::new();
        if sharing == Sharing::Handout {
            part.accept = None; // that is the acceptor's
            dealt = deal_datagrams(&mut common, threads)?;
        }
        let (mut members, mut fates) = (Vec::with_capacity(threads), Fates::default());
        for at in 0..threads {
            if let Some((sockets, addresses)) = dealt.get(at) {
                part.addresses.clone_from(addresses);
                part.part.listeners = Some((sockets.clone(), addresses.clone()));
            }
            let one = member(part.clone())?;
            if sharing == Sharing::ReusePort {
                part.addresses = one.addresses().to_vec(); // a port that was given as 0 is by now another
            }
            members.push((one, fates.another()));
        }
        let control = Control::of_all(members.iter().map(|(member, fate)| member.control().outlived_by(fate)));
        if sharing != Sharing::Handout {
            let addresses = members[0].0.addresses().to_vec();
            return Ok(Group { members, cpus, acceptor: None, fates, addresses, control });
        }
        // poll(2), whatever the members wait by: of two sources nothing is cheaper. It has nothing to say to anybody.
        let acceptor = ReadinessServer::bind(common, Echo, Trigger::Level, Poll::open)?.handing_to(control.clone());
        let mut accepting = acceptor.addresses().iter();
        let of_datagrams = |at: usize| dealt[at % threads].1.get(at / threads);
        let mut taking = (0..).map_while(of_datagrams);
        let addresses = config.addresses.iter().filter_map(|wanted| match wanted.is_of_datagrams() {
            true => taking.next().cloned(),
            false => accepting.next().cloned(),
        });
        let (addresses, fate) = (addresses.collect(), fates.another());
        let control = control.with_acceptor(&acceptor.control().outlived_by(&fate));
        Ok(Group { members, cpus, acceptor: Some((Box::new(acceptor), fate)), fates, addresses, control })
    }
}

impl Server for Group {
    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn control(&self) -> Control {
        self.control.clone()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        Ok(self.run_to_account()?.total)
    }

    /// Runs every member on a thread of its own; this one waits for them.
    fn run_to_account(self: Box<Self>) -> io::Result<Account> {
        let Group { members, cpus, acceptor, fates: _fates, control, .. } = *self;
        let serving = members.len();
        let ended = thread::scope(|scope| {
            let mut running = Vec::with_capacity(serving + 1);
            for (at, (member, fate)) in members.into_iter().chain(acceptor).enumerate() {
                let (all, cpu) =
                    (EndAll { control: control.clone(), fate, did: None }, cpus.get(at).copied().flatten());
                let thread =
                    thread::Builder::new().name(if at < serving { format!("loop-{at}") } else { "acceptor".into() });
                let started = thread.spawn_scoped(scope, move || {
                    cpu.map_or(Ok(()), pin)?;
                    let did = member.run()?;
                    all.in_good_order(did);
                    io::Result::Ok(did)
                });
                // If it failed, what it was to run is gone by now, and the others have been stopped.
                running.push(started);
            }
            // All are waited for before any is judged.
            running.into_iter().map(|started| started.map(thread::ScopedJoinHandle::join)).collect::<Vec<_>>()
        });
        let mut threads = Vec::with_capacity(ended.len());
        for one in ended {
            threads.push(one?.unwrap_or_else(|panicked| panic::resume_unwind(panicked))?);
        }
        let acceptor = (threads.len() > serving).then(|| threads.pop()).flatten();
        Ok(Account::new(threads, acceptor))
    }
}

/// Binds the sockets of datagrams and deals them out to so many loops, in turn: whoever accepts takes no messages.
fn deal_datagrams(common: &mut Config, threads: usize) -> io::Result<Vec<Bound>> {
    let (sockets, connections): (Vec<_>, Vec<_>) =
        std::mem::take(&mut common.addresses).into_iter().partition(Address::is_of_datagrams);
    let mut dealt = vec![Bound::default(); threads];
    for (at, address) in sockets.into_iter().enumerate() {
        let (bound, addresses) = Config { addresses: vec![address], ..common.clone() }.bind(true)?;
        let (held, named) = &mut dealt[at % threads];
        held.extend(bound);
        named.extend(addresses);
    }
    if connections.is_empty() {
        common.part.listeners = Some(Bound::default()); // to accept from nowhere is no mistake here
    }
    common.addresses = connections;
    Ok(dealt)
}

/// Ends all members when dropped, which is when one has ended, be it by a panic.
struct EndAll {
    control: Control,
    fate: Fate,
    /// None if it has failed.
    did: Option<Stats>,
}

impl EndAll {
    /// Where they were told to end as this one was, it changes nothing.
    fn in_good_order(mut self, did: Stats) {
        self.did = Some(did);
    }
}

impl Drop for EndAll {
    fn drop(&mut self) {
        match self.did {
            Some(did) => {
                self.fate.ended(did);
                self.control.drain();
            }
            None => {
                self.fate.over();
                self.control.stop();
            }
        }
    }
}
