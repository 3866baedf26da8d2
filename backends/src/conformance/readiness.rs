//! What is reported, and when: readable, writable, ends, errors, and nothing besides.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::subject::{Fact::*, Subject, fill, pair, swallow};
use super::{Verdict, cases, skip};
use crate::event::{Interest, Token};
use crate::poller::Poller;

cases! {
    1:
        nothing_is_readable_before_data_arrives,
        data_makes_its_stream_readable,
        a_pending_connection_makes_its_listener_readable,
        a_datagram_makes_its_socket_readable,
        room_makes_its_stream_writable,
        a_full_stream_is_not_writable_until_it_drains,
        urgent_data_is_priority;
    5:
        only_sources_that_fired_are_reported,
        both_directions_arrive_in_one_event,
        a_half_close_wakes_the_reader,
        a_half_close_with_data_pending_keeps_the_data,
        an_own_half_close_is_not_the_peers_end,
        a_reset_wakes_every_armed_direction,
        a_refused_connection_wakes_the_writer;
}

const A: Token = Token::new(1, 1);
const B: Token = Token::new(2, 1);

fn nothing_is_readable_before_data_arrives<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, A, Interest::READABLE);
    subject.expect_silence();
    Ok(())
}

fn data_makes_its_stream_readable<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    far.write_all(b"x").expect("there is room");
    let events = subject.expect(&[(A, Readable)]);
    assert!(events.iter().all(|event| !event.writable()), "nobody asked for room, and there is no error: {events:?}");
    Ok(())
}

fn a_pending_connection_makes_its_listener_readable<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    subject.add(&listener, A, Interest::READABLE);
    subject.expect_silence();
    let _near = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    subject.expect(&[(A, Readable)]);
    listener.accept().expect("as reported, without blocking");
    subject.expect_silence();
    Ok(())
}

fn a_datagram_makes_its_socket_readable<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    subject.add(&socket, A, Interest::READABLE);
    subject.expect_silence();
    socket.send_to(b"x", socket.local_addr().expect("it is bound")).expect("loopback can be sent to");
    subject.expect(&[(A, Readable)]);
    socket.recv(&mut [0; 8]).expect("as reported, without blocking");
    subject.expect_silence();
    Ok(())
}

fn room_makes_its_stream_writable<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, A, Interest::WRITABLE);
    let events = subject.expect(&[(A, Writable)]);
    assert!(events.iter().all(|event| !event.readable()), "there is no data, and no error: {events:?}");
    Ok(())
}

fn a_full_stream_is_not_writable_until_it_drains<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, far) = pair();
    let written = fill(&near);
    subject.add(&near, A, Interest::WRITABLE);
    subject.expect_silence();
    swallow(&far, written);
    subject.expect(&[(A, Writable)]);
    Ok(())
}

fn urgent_data_is_priority<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.priority {
        return skip("urgent data is not reported");
    }
    let (near, far) = pair();
    subject.add(&near, A, Interest::READABLE | Interest::PRIORITY);
    subject.expect_silence();
    socket2::SockRef::from(&far).send_out_of_band(b"!").expect("there is room");
    subject.expect(&[(A, Priority)]);
    Ok(())
}

fn only_sources_that_fired_are_reported<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let mut pairs: Vec<_> = (0..20).map(|_| pair()).collect();
    for (slot, (near, _)) in pairs.iter().enumerate() {
        subject.add(near, Token::new(slot as u32, 0), Interest::READABLE);
    }
    for chosen in [0, 7, 19] {
        pairs[chosen].1.write_all(b"x").expect("there is room");
        subject.expect(&[(Token::new(chosen as u32, 0), Readable)]);
        swallow(&pairs[chosen].0, 1);
        subject.expect_silence();
    }
    Ok(())
}

fn both_directions_arrive_in_one_event<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    far.write_all(b"x").expect("there is room");
    // Once the data is here, both directions are ready before the first wait.
    subject.add(&near, B, Interest::READABLE);
    subject.expect(&[(B, Readable)]);
    subject.modify(&near, A, Interest::READABLE | Interest::WRITABLE, crate::Trigger::Level);
    let events = subject.wait(Duration::from_secs(1));
    assert!(
        matches!(events[..], [event] if event.token() == A && event.readable() && event.writable()),
        "expected one event, readable and writable, but found {events:?}"
    );
    Ok(())
}

fn a_half_close_wakes_the_reader<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (mut near, far) = pair();
    subject.add(&near, A, Interest::READABLE);
    far.shutdown(Shutdown::Write).expect("it is connected");
    let told = if subject.capabilities.half_close { ReadClosed } else { Readable };
    subject.expect(&[(A, Readable), (A, told)]);
    assert_eq!(near.read(&mut [0; 8]).expect("as reported, without blocking"), 0);
    Ok(())
}

fn a_half_close_with_data_pending_keeps_the_data<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (mut near, mut far) = pair();
    far.write_all(b"last words").expect("there is room");
    far.shutdown(Shutdown::Write).expect("it is connected");
    subject.add(&near, A, Interest::READABLE);
    let told = if subject.capabilities.half_close { ReadClosed } else { Readable };
    subject.expect(&[(A, Readable), (A, told)]);
    let mut read = [0; 32];
    assert_eq!(near.read(&mut read).expect("as reported, without blocking"), 10);
    subject.expect(&[(A, Readable)]);
    assert_eq!(near.read(&mut read).expect("as reported, without blocking"), 0);
    Ok(())
}

fn an_own_half_close_is_not_the_peers_end<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    near.shutdown(Shutdown::Write).expect("it is connected");
    subject.add(&near, A, Interest::READABLE);
    subject.expect_silence();
    far.write_all(b"x").expect("only the other direction is closed");
    let events = subject.expect(&[(A, Readable)]);
    assert!(events.iter().all(|event| !event.read_closed()), "the peer can still send: {events:?}");
    Ok(())
}

fn a_reset_wakes_every_armed_direction<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (mut near, far) = pair();
    // Without room, so that only the reset can wake the writer.
    fill(&near);
    subject.add(&near, A, Interest::READABLE | Interest::WRITABLE);
    subject.expect_silence();
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
    drop(far);
    let told = if subject.capabilities.errors { Error } else { Readable };
    subject.expect(&[(A, Readable), (A, Writable), (A, told)]);
    let read = near.read(&mut [0; 8]);
    if let (Some(version), Ok(0)) = (crate::wine(), &read) {
        return skip(format!(
            "was told as it should be; then read under wine {version} says 0 and not ConnectionReset"
        ));
    }
    let error = read.expect_err("a reset connection has nothing to read");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    Ok(())
}

fn a_refused_connection_wakes_the_writer<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let nobody = listener.local_addr().expect("it is bound");
    drop(listener);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("TCP exists");
    socket.set_nonblocking(true).expect("a socket can be non-blocking");
    if socket.connect(&nobody.into()).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        return skip("this system refuses a loopback connection at once");
    }
    let stream = TcpStream::from(socket);
    subject.add(&stream, A, Interest::WRITABLE);
    subject.expect(&[(A, Writable)]);
    let error = stream.take_error().expect("SO_ERROR can be read").expect("the connection was refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    Ok(())
}
