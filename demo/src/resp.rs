//! A client for the REdis Serialization Protocol, version 2, over a Unix socket: pipelined and small.
//!
//! Commands collect in a buffer, [`Client::send`] writes them in one go, and [`Client::reply`] returns the
//! replies in order. Nothing but what the demonstration says to a server is here.
//! Source: <https://redis.io/docs/reference/protocol-spec/>.
//!
//! Zone: control (a program of its own).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A server that says nothing for so long is counted as hung.
const SILENCE: Duration = Duration::from_secs(60);

/// One reply.
#[derive(Debug, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`, `:1` or a bulk string
    Bytes(&'a [u8]),
    /// no such key
    Nil,
}

/// A connection to a server.
pub struct Client {
    stream: UnixStream,
    /// Commands not sent yet.
    out: Vec<u8>,
    /// Bytes received; those before `at` are consumed.
    input: Vec<u8>,
    at: usize,
}

impl Client {
    /// Connects to the server that listens on the socket `path`.
    ///
    /// # Errors
    /// Whatever `connect(2)` says: ENOENT or ECONNREFUSED while the server is still starting.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Client { stream, out: Vec::with_capacity(1 << 17), input: Vec::with_capacity(1 << 17), at: 0 })
    }

    /// Adds one command to the pipeline.
    pub fn queue(&mut self, words: &[&[u8]]) {
        self.header(b'*', words.len());
        for word in words {
            self.header(b'$', word.len());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn header(&mut self, kind: u8, number: usize) {
        self.out.push(kind);
        self.out.extend_from_slice(number.to_string().as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Sends everything in the pipeline. Keep a pipeline below a few hundred commands: the server answers
    /// while it reads, and both sides would wait for ever once both sockets are full.
    ///
    /// # Errors
    /// Whatever `write(2)` says; EAGAIN when the server has read nothing for a minute.
    pub fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next reply.
    ///
    /// # Errors
    /// `InvalidData` with the server's words for an error reply, or for bytes that are no reply;
    /// `UnexpectedEof` when the server closed the connection; EAGAIN after a minute of silence.
    pub fn reply(&mut self) -> io::Result<Reply<'_>> {
        // The replies of a batch are consumed from the front; move the rest down only when it is short.
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
        let (kind, start, end) = self.line()?;
        match kind {
            b'+' | b':' => Ok(Reply::Bytes(&self.input[start..end])),
            b'-' => Err(bad(&self.input[start..end])),
            b'$' => {
                if &self.input[start..end] == b"-1" {
                    return Ok(Reply::Nil);
                }
                let digits =
                    std::str::from_utf8(&self.input[start..end]).ok().and_then(|d| d.parse::<usize>().ok());
                let length = digits.ok_or_else(|| bad(b"not a length"))?;
                let first = self.at;
                while self.input.len() < first + length + 2 {
                    self.receive()?;
                }
                self.at = first + length + 2;
                Ok(Reply::Bytes(&self.input[first..first + length]))
            }
            _ => Err(bad(b"not a reply this client knows")),
        }
    }

    /// Queues one command, sends it and returns its reply as text ("" for nil).
    ///
    /// # Errors
    /// As [`Client::send`] and [`Client::reply`].
    pub fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        self.queue(&words);
        self.send()?;
        match self.reply()? {
            Reply::Bytes(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Reply::Nil => Ok(String::new()),
        }
    }

    /// Takes one line: its first byte, and where the rest of it lies in `input`.
    fn line(&mut self) -> io::Result<(u8, usize, usize)> {
        let start = self.at;
        let mut seen = start;
        loop {
            if let Some(found) = self.input[seen..].windows(2).position(|w| w == b"\r\n") {
                let end = seen + found;
                self.at = end + 2;
                if end == start {
                    return Err(bad(b"an empty line"));
                }
                return Ok((self.input[start], start + 1, end));
            }
            seen = self.input.len().saturating_sub(1).max(start);
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let old = self.input.len();
        self.input.resize(old + (64 << 10), 0);
        let received = self.stream.read(&mut self.input[old..]);
        self.input.truncate(old + *received.as_ref().unwrap_or(&0));
        if received? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(())
    }
}

fn bad(words: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(words).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose server has said `bytes` and hung up.
    fn after(bytes: &[u8]) -> Client {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        theirs.write_all(bytes).expect("a short write");
        Client { stream: ours, out: Vec::new(), input: Vec::new(), at: 0 }
    }

    #[test]
    fn replies_come_back_in_order() {
        let mut client = after(b"+OK\r\n$5\r\na\r\nbc\r\n$-1\r\n:42\r\n$0\r\n\r\n-ERR no\r\n");
        assert_eq!(client.reply().unwrap(), Reply::Bytes(b"OK"));
        assert_eq!(client.reply().unwrap(), Reply::Bytes(b"a\r\nbc"));
        assert_eq!(client.reply().unwrap(), Reply::Nil);
        assert_eq!(client.reply().unwrap(), Reply::Bytes(b"42"));
        assert_eq!(client.reply().unwrap(), Reply::Bytes(b""));
        assert_eq!(client.reply().unwrap_err().to_string(), "ERR no");
        assert_eq!(client.reply().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [b"\r\n".as_slice(), b"$x\r\n", b"?\r\n", b"$-7\r\n", b"$5\r\nab"] {
            assert!(after(bytes).reply().is_err());
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let mut client = Client { stream: ours, out: Vec::new(), input: Vec::new(), at: 0 };
        client.queue(&[b"SET", b"k", b"\r\n"]);
        client.send().expect("sent");
        drop(client);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).expect("read");
        assert_eq!(sent, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n");
    }
}
