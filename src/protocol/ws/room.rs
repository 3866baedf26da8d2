//! Who hears what is said to all, and how much of it each has not yet read.
//!
//! What a peer does not read is kept for it, without a bound of its own: so the room asks, now and then, by a ping with
//! a number that only who reads can know, and sends those who are far behind away.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pollmark_backends::Token;
use tungstenite::protocol::frame::coding::CloseCode;

use super::messages::{Kind, frame};
use crate::protocol::{Context, Letter, Post};

/// A member is asked once it was sent this part of what it may leave unread.
const PART: usize = 4;

/// The part of the room in which the connections of one server are.
#[derive(Debug, Default)]
pub(super) struct Corner {
    number: u64,
    room: Arc<Room>,
}

/// All that want to hear, by whichever server they are served.
#[derive(Debug, Default)]
struct Room {
    inside: Mutex<Inside>,
    numbers: RandomState,
}

#[derive(Debug, Default)]
struct Inside {
    members: HashMap<Name, Member>,
    /// How each corner's members are reached from the others.
    posts: HashMap<u64, Post>,
    /// How many corners there have been, but for the first, which has no server and no post.
    corners: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Name {
    corner: u64,
    connection: Token,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Member {
    /// Bytes sent, and how many of them are known to have been read.
    sent: u64,
    read: u64,
    /// What was asked last, and how much had been sent by then.
    asked: Option<(u64, u64)>,
}

impl Room {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Corner {
    /// One more of the same room, for the server that `post` leads to.
    pub(super) fn another(&self, post: &Post) -> Corner {
        let mut inside = self.room.inside();
        inside.corners += 1;
        let number = inside.corners;
        inside.posts.insert(number, post.clone());
        Corner { number, room: Arc::clone(&self.room) }
    }

    fn name(&self, connection: Token) -> Name {
        Name { corner: self.number, connection }
    }

    pub(super) fn enter(&self, connection: Token) {
        self.room.inside().members.insert(self.name(connection), Member::default());
    }

    pub(super) fn leave(&self, connection: Token) {
        self.room.inside().members.remove(&self.name(connection));
    }

    /// A member says what it was asked.
    pub(super) fn acknowledge(&self, connection: Token, number: Option<u64>) {
        if let Some(member) = self.room.inside().members.get_mut(&self.name(connection))
            && let Some((asked, sent)) = member.asked
            && number == Some(asked)
        {
            member.read = sent;
            member.asked = None;
        }
    }

    /// Sends frames to all members but the one who says them. Who has left more than `most` bytes unread is sent away.
    pub(super) fn say(&self, speaker: Token, frames: &[u8], most: usize, cx: &mut Context<'_>) {
        let (speaker, letter) = (self.name(speaker), Arc::<[u8]>::from(frames));
        let mut elsewhere = HashMap::<u64, Vec<Letter>>::new();
        let mut send = |to: Name, bytes| match to.corner == self.number {
            true => cx.send_to(to.connection, bytes),
            false => elsewhere.entry(to.corner).or_default().push((to.connection, bytes)),
        };
        let mut inside = self.room.inside();
        inside.members.retain(|&to, member| {
            if to == speaker {
                return true;
            }
            if member.sent - member.read > most as u64 {
                tracing::debug!(connection = ?to.connection, "sent away: it does not read");
                let mut goodbye = Vec::new();
                frame(Kind::Close, &u16::from(CloseCode::Again).to_be_bytes(), &mut goodbye);
                send(to, goodbye.into());
                return false;
            }
            send(to, Arc::clone(&letter));
            member.sent += letter.len() as u64;
            if member.asked.is_none() && (member.sent - member.read) as usize > most / PART {
                let number = self.room.numbers.hash_one((to, member.sent));
                member.asked = Some((number, member.sent));
                let mut question = Vec::new();
                frame(Kind::Ping, &number.to_be_bytes(), &mut question);
                send(to, question.into());
            }
            true
        });
        for (corner, letters) in elsewhere {
            if let Some(post) = inside.posts.get(&corner) {
                post.send(letters);
            }
        }
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        self.room.inside().posts.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Turn;
    use std::sync::mpsc;

    /// What `say` sends within the speaker's corner, by its first byte: M for the message, P for a question, C for a
    /// goodbye.
    fn say(corner: &Corner, speaker: u64, most: usize) -> Vec<(u64, char)> {
        let mut turn = Turn::default();
        corner.say(Token(speaker), b"MMMMMMMMMM", most, &mut Context::new(&mut turn, Token(speaker), &[]));
        by_kind(&turn.mail)
    }

    fn by_kind(letters: &[Letter]) -> Vec<(u64, char)> {
        let kind = |letter: &[u8]| match letter[0] {
            0x89 => 'P',
            0x88 => 'C',
            other => char::from(other),
        };
        let mut sent = letters.iter().map(|(to, letter)| (to.0, kind(letter))).collect::<Vec<_>>();
        sent.sort_by_key(|(to, _)| *to);
        sent
    }

    #[test]
    fn all_but_the_speaker_hear_until_they_leave() {
        let room = Corner::default();
        (1..=3).for_each(|member| room.enter(Token(member)));
        assert_eq!(say(&room, 1, 1_000), [(2, 'M'), (3, 'M')]);
        room.leave(Token(3));
        assert_eq!(say(&room, 9, 1_000), [(1, 'M'), (2, 'M')]);
    }

    /// Two servers name their connections alike.
    #[test]
    fn what_is_said_in_one_corner_is_heard_in_the_others_by_those_who_are_there() {
        let (sender, posted) = mpsc::channel();
        let post = Post::new(move |letters| sender.send(letters).expect("it is read below"));
        let silent = Post::new(|_| panic!("nobody is there to hear it"));
        let (first, empty) = (Corner::default(), Corner::default().another(&silent));
        let (second, _third) = (first.another(&post), first.another(&silent));
        for corner in [&first, &second, &empty] {
            (1..=2).for_each(|member| corner.enter(Token(member)));
        }
        assert_eq!(say(&first, 1, 1_000), [(2, 'M')]);
        assert_eq!(by_kind(&posted.try_recv().expect("by one post")), [(1, 'M'), (2, 'M')]);
        second.leave(Token(1));
        assert_eq!(say(&first, 2, 1_000), [(1, 'M')]);
        assert_eq!(by_kind(&posted.try_recv().expect("by one post")), [(2, 'M')]);
        // Who is far behind is sent away wherever it is.
        assert_eq!(say(&first, 1, 15), [(2, 'M'), (2, 'P')]);
        assert_eq!(by_kind(&posted.try_recv().expect("by one post")), [(2, 'C')]);
        drop(second);
        assert_eq!(say(&first, 1, 1_000), [(2, 'M')]);
        assert!(posted.try_recv().is_err(), "its server has ended");
    }

    #[test]
    fn who_does_not_read_is_asked_and_then_sent_away() {
        let room = Corner::default();
        room.enter(Token(1));
        assert_eq!(say(&room, 9, 25), [(1, 'M'), (1, 'P')]);
        let number = room.room.inside().members[&room.name(Token(1))].asked.expect("asked").0;
        assert_eq!(say(&room, 9, 25), [(1, 'M')], "one question at a time");
        room.acknowledge(Token(1), Some(number));
        assert_eq!(say(&room, 9, 25), [(1, 'M'), (1, 'P')]);
        // Who answers what was not asked has not read.
        room.acknowledge(Token(1), Some(number));
        room.acknowledge(Token(1), None);
        assert_eq!(say(&room, 9, 25), [(1, 'M')]);
        assert_eq!(say(&room, 9, 25), [(1, 'C')]);
        assert_eq!(say(&room, 9, 25), []);
    }
}
