//! Mail to connections of other loops: what one thread has for those that another serves.

use std::fmt;
use std::sync::Arc;

use pollmark_backends::Token;

/// The name of a connection, and bytes for it, which others may be sent, too.
pub type Letter = (Token, Arc<[u8]>);

/// The way to the connections of one server from any thread: given to its protocol when [it begins].
///
/// Where several servers are one, with a thread each, a protocol that is to reach the connections of all of them keeps
/// the posts of all, and for each connection which of them it is; [`Ws`](super::Ws) does. To connections of its own
/// loop [`Context::send_to`](super::Context::send_to) is the shorter way.
///
/// [it begins]: super::Protocol::begin
///
/// ```
/// use pollmark::protocol::Post;
/// use pollmark_backends::Token;
/// use std::sync::{Arc, mpsc};
///
/// let (sender, delivered) = mpsc::channel();
/// let post = Post::new(move |letters| sender.send(letters).expect("it is read below"));
/// post.send(vec![(Token(7), Arc::from(*b"hello"))]);
/// assert_eq!(delivered.recv().expect("a letter")[0].0, Token(7));
/// ```
#[derive(Clone)]
pub struct Post(Arc<dyn Fn(Vec<Letter>) + Send + Sync>);

impl Post {
    /// Sends by `deliver`, which is called on the thread of whoever sends, and must not block it.
    pub fn new(deliver: impl Fn(Vec<Letter>) + Send + Sync + 'static) -> Post {
        Post(Arc::new(deliver))
    }

    /// Sends each its bytes, some time after, in this order. What is for a connection that is gone, or a server that
    /// has ended, is dropped. Nothing bounds what a peer that does not read comes to be owed in this way.
    pub fn send(&self, letters: Vec<Letter>) {
        if !letters.is_empty() {
            self.0(letters);
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Post")
    }
}
