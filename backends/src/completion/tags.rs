//! How a completion is known: by its token, and what kind of operation it was.

use crate::event::Token;

/// What an operation is, told by four bits of its user data that a token leaves free. 0 is the common case.
pub(super) const TAGS: u64 = 0xF << 28;
pub(super) const RECEIVE: u64 = 0;
pub(super) const SILENT: u64 = 1 << 28;
pub(super) const SENT: u64 = 2 << 28;
pub(super) const ACCEPT: u64 = 3 << 28;
pub(super) const WATCH: u64 = 4 << 28;
pub(super) const BUNDLE: u64 = 5 << 28;
pub(super) const NOBODYS: u64 = 15 << 28;

pub(super) fn tag(user_data: u64) -> u64 {
    user_data & TAGS
}

pub(super) fn token(user_data: u64) -> Token {
    Token(user_data & !TAGS)
}

pub(super) fn tagged(tag: u64, token: Token) -> u64 {
    assert!(token.0 & TAGS == 0, "slots are numbered below 2^28");
    token.0 | tag
}
