//! RESP, the protocol of Redis, versions 2 and 3: enough of it for real clients and tools.
//!
//! | idea | file |
//! |---|---|
//! | where one command ends | `parse.rs` |
//! | which commands there are, and whom they are handed to | `table.rs` |
//! | commands on keys, texts and lists | `commands.rs` |
//! | commands about the connection and the server | `about.rs` |
//! | what is said, in either version | `reply.rs` |
//! | keys and values | `store.rs` |

mod about;
mod commands;
mod parse;
mod reply;
mod store;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::parse::{Command, Progress, Step, Words};
use self::reply::{Reply, Version};
use self::store::Store;
use super::{Context, Peer, Protocol};

/// A server of keys and values. All clones share one store, so that all loops of a process serve the same data; each
/// takes the lock once for all the commands of a read.
///
/// ```no_run
/// use pollmark::{backends::Registry, mechanism::Mechanism, protocol::Resp, server::Config};
///
/// # fn main() -> std::io::Result<()> {
/// let registry = Registry::builtin();
/// let config = Config::listen("127.0.0.1:6379".parse()?);
/// Mechanism::choose(&registry)?.bind(&registry, config, Resp::default())?.run()?; // then: redis-cli
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Resp {
    shared: Arc<Shared>,
    words: Words,
}

/// What a peer may ask for. Whoever goes beyond is told so, and closed, unless it says otherwise here.
///
/// ```
/// use pollmark::protocol::{Resp, resp::Limits};
///
/// let small = Resp::new(Limits { memory: 1024 * 1024, ..Limits::default() });
/// # let _ = small;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Words of a command.
    pub most_words: u32,
    /// Bytes of one word.
    pub most_string: u32,
    /// Bytes of a command. A server's own limit of an unfinished message should be a little higher: it closes without
    /// a word.
    pub most_command: u32,
    /// Bytes of the answers to what is executed at once: to one command, beside what a server lets a peer be owed. The
    /// connection is reset beyond, without a word: half an answer is none.
    pub most_gathered: usize,
    /// About how many bytes all keys and values may take. A command that would need more is refused, and the connection
    /// goes on.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            most_words: 128 * 1024,
            most_string: 512 * 1024,
            most_command: 1_000_000,
            most_gathered: 64 * 1024 * 1024,
            memory: 512 * 1024 * 1024,
        }
    }
}

/// What all clones have in common.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    store: Mutex<Store>,
    /// Connections so far, which is also the number of the latest.
    connections: AtomicU64,
    closed: AtomicU64,
    commands: AtomicU64,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared::new(Limits::default())
    }
}

impl Shared {
    fn new(limits: Limits) -> Shared {
        let store = Mutex::new(Store::new(limits.memory));
        let [connections, closed, commands] = [const { AtomicU64::new(0) }; 3];
        Shared { limits, store, connections, closed, commands }
    }
}

/// What is remembered of one connection.
#[derive(Debug)]
pub struct Session {
    progress: Progress,
    version: Version,
    id: u64,
    name: Option<Box<[u8]>>,
    shared: Arc<Shared>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// One command on its way: what was asked, of whom, and where the answer goes.
struct Call<'a, 'c, 's> {
    command: Command<'a>,
    reply: Reply<'a, 'c>,
    session: &'a mut Session,
    store: &'a mut Locked<'s>,
    /// How many commands of this batch came before it: they are accounted for all at once.
    before: u64,
}

/// The store, locked when first asked for, and until the batch of commands is done.
struct Locked<'s> {
    store: &'s Mutex<Store>,
    guard: Option<MutexGuard<'s, Store>>,
}

impl Locked<'_> {
    #[inline]
    fn get(&mut self) -> &mut Store {
        // A panic elsewhere while it was held: each change of the store is whole before anything that may panic.
        self.guard.get_or_insert_with(|| self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Resp {
    /// An empty store within `limits`.
    pub fn new(limits: Limits) -> Resp {
        Resp { shared: Arc::new(Shared::new(limits)), words: Words::default() }
    }
}

impl Protocol for Resp {
    type Session = Session;

    fn refusal(&self) -> &'static [u8] {
        b"-ERR max number of clients reached\r\n"
    }

    fn open(&mut self, _peer: &Peer, _cx: &mut Context<'_>) -> Session {
        let id = self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (progress, version) = (Progress::default(), Version::Two);
        Session { progress, version, id, name: None, shared: Arc::clone(&self.shared) }
    }

    fn received(&mut self, session: &mut Session, input: &[u8], cx: &mut Context<'_>) -> usize {
        let Resp { shared, words } = self;
        let limits = &shared.limits;
        let mut store = Locked { store: &shared.store, guard: None };
        let (mut consumed, mut commands) = (0, 0);
        while !cx.is_full() {
            let rest = &input[consumed..];
            let bytes = match words.find(rest, &mut session.progress, limits) {
                Ok(Step::Command(bytes)) => bytes,
                Ok(Step::Nothing(bytes)) => {
                    consumed += bytes;
                    continue;
                }
                Ok(Step::Unfinished) => break,
                Err(violation) => {
                    Reply { cx, version: session.version, most_gathered: 0 }.error(format_args!("ERR {violation}"));
                    cx.close_when_flushed();
                    consumed = input.len();
                    break;
                }
            };
            consumed += bytes;
            let reply = Reply { version: session.version, most_gathered: limits.most_gathered, cx };
            let mut call = Call { command: words.command(rest), reply, session, store: &mut store, before: commands };
            table::execute(&mut call);
            commands += 1;
            if call.reply.is_too_long() {
                tracing::debug!(connection = ?cx.connection(), "more was asked for at once than there may be");
                cx.abort();
                break;
            }
            if cx.is_closing() {
                break;
            }
        }
        drop(store);
        words.shrink();
        shared.commands.fetch_add(commands, Ordering::Relaxed);
        consumed
    }
}
