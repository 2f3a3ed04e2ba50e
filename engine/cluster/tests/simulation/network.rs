//! The simulated network: connections that keep the order of their bytes, and nothing else.
//!
//! Each direction of a connection is a pipe. Written bytes arrive in pieces, each after a delay of its own but never
//! before the piece before it. Pieces of different connections overtake one another. While two machines are cut off
//! from each other pieces wait, as a transport repeats them until they arrive. The end of a process closes its
//! connections after what is in flight, or resets them; the loss of power of a machine is not noticed for a while.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_cluster::network::{Duplex, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::faults::Degradation;
use crate::kernel;
use crate::world::{Machine, ProcessId, World, current, name_of, world};

/// Capacity of one direction of a connection.
pub const PIPE_BYTES_MAX: usize = 256 << 10;
const PIECE_BYTES_MAX: usize = 16 << 10;

type Opened = io::Result<Box<dyn Duplex>>;

#[derive(Default)]
pub struct Pipes {
    pipes: Vec<Pipe>,
    listeners: BTreeMap<SocketAddr, Listener>,
}

struct Listener {
    process: ProcessId,
    opened: mpsc::UnboundedSender<Opened>,
}

struct Pipe {
    from: ProcessId,
    to: ProcessId,
    /// `None`: the writer has closed it.
    under_way: VecDeque<Option<Bytes>>,
    arrived: VecDeque<Bytes>,
    /// Of both.
    bytes: usize,
    last_arrival_ns: u64,
    has_ended: bool,
    is_closed: bool,
    is_reset: bool,
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl World {
    fn delay_ns(&mut self, from: Machine, to: Machine) -> u64 {
        let slow = self.is_degraded(Degradation::SlowNetwork, from) || self.is_degraded(Degradation::SlowNetwork, to);
        let (least_us, most_us) = match slow {
            true => (1_000, 800_000),
            false if self.random.per_mille(5) => (1_000, 60_000),
            false => (30, 1_500),
        };
        self.random.between(least_us, most_us) * 1_000
    }

    fn open_pipe(&mut self, from: ProcessId, to: ProcessId) -> usize {
        self.pipes.pipes.push(Pipe {
            from,
            to,
            under_way: VecDeque::new(),
            arrived: VecDeque::new(),
            bytes: 0,
            last_arrival_ns: 0,
            has_ended: false,
            is_closed: false,
            is_reset: false,
            is_unread: false,
            reader: None,
            writer: None,
        });
        self.pipes.pipes.len() - 1
    }

    fn send(&mut self, number: usize, piece: Option<Bytes>) {
        let (from, to) = (self.pipes.pipes[number].from, self.pipes.pipes[number].to);
        let delay_ns = self.delay_ns(self.machine_of(from), self.machine_of(to));
        let pipe = &mut self.pipes.pipes[number];
        pipe.bytes += piece.as_ref().map_or(0, Bytes::len);
        pipe.under_way.push_back(piece);
        pipe.last_arrival_ns = pipe.last_arrival_ns.max(kernel::now_ns() + delay_ns);
        let at_ns = pipe.last_arrival_ns;
        self.at(at_ns, move |world| world.arrive(number));
    }

    /// Delivers the next piece, which keeps the order.
    fn arrive(&mut self, number: usize) {
        let (from, to) = (self.pipes.pipes[number].from, self.pipes.pipes[number].to);
        if self.silent.contains(&from) {
            return;
        }
        if let Some(until_ns) = self.is_cut(self.machine_of(from), self.machine_of(to)) {
            return self.at(until_ns + 1, move |world| world.arrive(number));
        }
        let pipe = &mut self.pipes.pipes[number];
        match pipe.under_way.pop_front() {
            Some(Some(piece)) => pipe.arrived.push_back(piece),
            Some(None) => pipe.has_ended = true,
            None => return,
        }
        let reader = pipe.reader.take();
        self.wake(to, reader);
    }

    fn reset(&mut self, number: usize) {
        let pipe = &mut self.pipes.pipes[number];
        pipe.is_reset = true;
        let (from, to) = (pipe.from, pipe.to);
        let (reader, writer) = (pipe.reader.take(), pipe.writer.take());
        self.wake(to, reader);
        self.wake(from, writer);
    }

    /// Resets the connections that match, each at a time of its own.
    pub fn reset_connections(&mut self, least_ns: u64, most_ns: u64, matches: impl Fn(ProcessId, ProcessId) -> bool) {
        let open: Vec<usize> = (0..self.pipes.pipes.len())
            .filter(|number| {
                let pipe = &self.pipes.pipes[*number];
                !pipe.is_reset && (matches(pipe.from, pipe.to) || matches(pipe.to, pipe.from))
            })
            .collect();
        for number in open {
            let delay_ns = self.random.between(least_ns, most_ns);
            self.after(delay_ns, move |world| world.reset(number));
        }
    }

    /// Closes the ports of a process.
    pub fn close_ports(&mut self, process: ProcessId) {
        self.pipes.listeners.retain(|_, listener| listener.process != process);
    }

    /// Returns the bytes of the fullest pipe.
    pub fn fullest_pipe_bytes(&self) -> usize {
        self.pipes.pipes.iter().map(|pipe| pipe.bytes).max().unwrap_or(0)
    }
}

pub struct SimulatedNetwork;

#[async_trait]
impl Network for SimulatedNetwork {
    async fn connect(&self, address: &str) -> Opened {
        let refused = |why: &str| io::Error::new(io::ErrorKind::ConnectionRefused, why.to_string());
        let from = current();
        let to: SocketAddr = address
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| refused("no such address"))?;
        let SocketAddr::V4(ip) = to else {
            return Err(refused("no such address"));
        };
        let machine = Machine::from(ip.ip().octets()[3]);
        loop {
            let wait_ns = {
                let mut world = world();
                let own = world.machine_of(from);
                let cut = world.is_cut(own, machine).or(world.is_cut(machine, own));
                match cut {
                    Some(until_ns) => until_ns - kernel::now_ns(),
                    None => world.delay_ns(own, machine),
                }
            };
            tokio::time::sleep(Duration::from_nanos(wait_ns)).await;
            let mut world = world();
            let own = world.machine_of(from);
            if world.is_cut(own, machine).or(world.is_cut(machine, own)).is_some() {
                continue;
            }
            let Some(listener) = world.pipes.listeners.get(&to) else {
                return Err(refused("nobody listens there"));
            };
            let (opened, process) = (listener.opened.clone(), listener.process);
            let (out, back) = (world.open_pipe(from, process), world.open_pipe(process, from));
            let text = format!("{} connects to {}", name_of(own), name_of(machine));
            world.note(&text);
            drop(world);
            let theirs = SimulatedStream {
                reads: out,
                writes: back,
            };
            let ours = SimulatedStream {
                reads: back,
                writes: out,
            };
            // Wakes the server, which gets its turn below.
            if opened.send(Ok(Box::new(theirs))).is_err() {
                return Err(refused("nobody listens there any more"));
            }
            super::world::world().wake(process, Some(Waker::noop().clone()));
            return Ok(Box::new(ours));
        }
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, Opened>> {
        let (opened, opened_in) = mpsc::unbounded_channel();
        let process = current();
        world().pipes.listeners.insert(address, Listener { process, opened });
        Ok(UnboundedReceiverStream::new(opened_in).boxed())
    }
}

struct SimulatedStream {
    reads: usize,
    writes: usize,
}

impl AsyncRead for SimulatedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut world = world();
        let pipe = &mut world.pipes.pipes[self.reads];
        if let Some(piece) = pipe.arrived.front_mut() {
            let length = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.split_to(length));
            if !piece.has_remaining() {
                pipe.arrived.pop_front();
            }
            pipe.bytes -= length;
            let (from, writer) = (pipe.from, pipe.writer.take());
            world.wake(from, writer);
            return Poll::Ready(Ok(()));
        }
        if pipe.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.has_ended {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut world = world();
        let pipe = &mut world.pipes.pipes[self.writes];
        if pipe.is_reset || pipe.is_unread || pipe.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES_MAX.saturating_sub(pipe.bytes);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = bytes.len().min(room).min(PIECE_BYTES_MAX);
        world.send(self.writes, Some(Bytes::copy_from_slice(&bytes[..length])));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        close(&mut world(), self.writes);
        Poll::Ready(Ok(()))
    }
}

fn close(world: &mut World, writes: usize) {
    let pipe = &mut world.pipes.pipes[writes];
    if !pipe.is_closed {
        pipe.is_closed = true;
        world.send(writes, None);
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let mut world = world();
        let own = world.pipes.pipes[self.reads].to;
        if world.silent.contains(&own) {
            // Its machine is off: the other end does not hear of it.
            return;
        }
        close(&mut world, self.writes);
        let pipe = &mut world.pipes.pipes[self.reads];
        pipe.is_unread = true;
        let (from, writer) = (pipe.from, pipe.writer.take());
        world.wake(from, writer);
    }
}
