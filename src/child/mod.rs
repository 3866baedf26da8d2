//! This program, executed again as a child: the measured server, or the load, each in a process of its own.
//!
//! CPU time and memory are accounted by process, so server and load must not share one; and a fresh process for each
//! visit keeps what one left behind from the next. A child is told what to do over its standard input and ends when
//! that closes, so nothing survives a parent that is killed.
//!
//! | idea | file |
//! |---|---|
//! | what the two say to each other | `wire.rs` |
//! | the parent's end | `parent.rs` |
//! | the child's end | `orders.rs` |
//! | the measured server | `serve.rs`, `instructions.rs` |
//! | the load | `load.rs` |

mod instructions;
mod load;
mod orders;
mod parent;
mod serve;
pub(crate) mod wire;

use std::env;
use std::process;

use pollmark_backends::Registry;

pub(crate) use parent::{Child, Failure};

/// Set in a child, to its role.
const ROLE_VARIABLE: &str = "POLLMARK_CHILD";

/// What a child is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Server,
    Load,
}

impl Role {
    const ALL: [Role; 2] = [Role::Server, Role::Load];

    const fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Load => "load",
        }
    }
}

/// Becomes a child, if this process was started as one, and does not return then. Call it first thing in `main`, with
/// the registry whose mechanisms are to be compared: the child executes the same program, and so has the same.
///
/// ```no_run
/// use pollmark_backends::Registry;
///
/// fn main() {
///     let registry = Registry::builtin();
///     pollmark::child::enter(&registry);
///     // From here on this is the parent.
/// }
/// ```
pub fn enter(registry: &Registry) {
    let Ok(role) = env::var(ROLE_VARIABLE) else { return };
    match Role::ALL.into_iter().find(|one| one.name() == role) {
        Some(Role::Server) => serve::run(registry, &orders::orders()),
        Some(Role::Load) => load::run(&orders::orders()),
        None => eprintln!("{ROLE_VARIABLE}={role:?} is not a role: it is set by pollmark for its children, unset it"),
    }
    process::exit(2);
}

/// Whether instructions can be counted here; if not, why.
pub(crate) fn can_count_instructions() -> Result<(), String> {
    instructions::Counters::open().map(drop).map_err(|error| error.to_string())
}

/// Whether this process is a child that has not entered its role: to start children from here would never end.
pub(crate) fn is_unentered_child() -> bool {
    env::var_os(ROLE_VARIABLE).is_some()
}
