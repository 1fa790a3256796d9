//! The load: fills the data set, reads and writes a hot block of keys far more than the rest, checks every answer.
//!
//! All writes go through one connection, which the server serves in order; so at any point between two batches
//! the [`KeySpace`] is exactly what the server holds, and so what a snapshot begun there must hold.
//!
//! Zone: control (a program of its own).

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::keyspace::{self, KeySpace, mix};
use crate::resp::{Client, Reply};

/// Commands in one pipeline.
const BATCH: usize = 32;

/// Batches on their way: while the server works at one, we make the next.
const ON_THE_WAY: usize = 2;

/// Accesses out of a hundred that go to the hot block.
const HOT_PERCENT: u64 = 90;

/// Accesses out of a hundred that write.
const WRITE_PERCENT: u64 = 10;

/// Writes out of a hundred that replace the value by a new one elsewhere (SET); the others change it where it lies
/// (SETRANGE). If all replaced, the hot set would spread over the whole heap within seconds: a new value takes a block
/// that some other key, hot or cold, has left.
const REPLACE_PERCENT: u64 = 10;

/// How reading back went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Keys asked for.
    pub asked: u64,
    /// Values that came back, and equal.
    pub equal: u64,
    /// Values that differ from what was written.
    pub wrong: u64,
    /// Values that are gone.
    pub missing: u64,
    /// Values that should be gone and are not.
    pub stale: u64,
}

impl Verdict {
    /// True when every answer was the right one.
    pub fn is_good(&self) -> bool {
        self.wrong + self.missing + self.stale == 0
    }

    fn judge(&mut self, expected: Option<u64>, got: &Reply<'_>) {
        self.asked += 1;
        let count = match (expected, got) {
            (Some(sum), Reply::Bytes(value)) if keyspace::checksum(value) == sum => &mut self.equal,
            (Some(_), Reply::Bytes(_)) => &mut self.wrong,
            (Some(_), Reply::Nil) => &mut self.missing,
            (None, Reply::Bytes(_)) => &mut self.stale,
            (None, Reply::Nil) => return,
        };
        *count += 1;
    }
}

/// The one writer of a server's data set.
pub struct Traffic {
    client: Client,
    keys: KeySpace,
    hot: Range<usize>,
    live: Range<usize>,
    random: u64,
    value: Vec<u8>,
    verdict: Verdict,
    operations: Arc<AtomicU64>,
    /// What the answers to the batches on their way must be, oldest first.
    expected: VecDeque<Vec<Answer>>,
}

/// What a command must answer.
#[derive(Clone, Copy)]
enum Answer {
    /// Anything but an error.
    Done,
    /// The value with this checksum, or none.
    Value(Option<u64>),
}

impl Traffic {
    /// A load of `keys` keys over `client`; commands done are added to `operations`.
    pub fn new(client: Client, keys: usize, operations: Arc<AtomicU64>) -> Traffic {
        Traffic {
            client,
            keys: KeySpace::new(keys),
            hot: 0..keys,
            live: 0..keys,
            random: 0x7e55_ace0,
            value: Vec::new(),
            verdict: Verdict::default(),
            operations,
            expected: VecDeque::new(),
        }
    }

    /// What the server must hold now.
    pub fn keys(&self) -> &KeySpace {
        &self.keys
    }

    /// How the reads of the traffic went, so far.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Writes the first version of every key of `part`.
    ///
    /// # Errors
    /// When the server fails, or refuses a write.
    pub fn load(&mut self, part: Range<usize>) -> io::Result<()> {
        for first in part.clone().step_by(BATCH) {
            let batch = first..(first + BATCH).min(part.end);
            let answers = vec![Answer::Done; batch.len()];
            batch.for_each(|key| self.queue_write(key));
            self.exchange(answers)?;
        }
        self.drain()
    }

    /// From now on `hot` is the hot block, and `live` the keys used at all.
    pub fn aim(&mut self, hot: Range<usize>, live: Range<usize>) {
        self.hot = hot;
        self.live = live;
    }

    /// One batch of skewed reads and writes; every value read is checked, if not at once then with the next batch.
    ///
    /// # Errors
    /// When the server fails, or refuses a command.
    pub fn batch(&mut self) -> io::Result<()> {
        let mut answers = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let among = if self.draw(100) < HOT_PERCENT { self.hot.clone() } else { self.live.clone() };
            let key = among.start + self.draw(among.len() as u64) as usize;
            if self.draw(100) < WRITE_PERCENT && self.keys.expect(key).is_some() {
                if self.draw(100) < REPLACE_PERCENT {
                    self.queue_write(key);
                } else {
                    self.keys.write(key, &mut self.value);
                    self.client.queue(&[b"SETRANGE", &keyspace::name(key), b"0", &self.value]);
                }
                answers.push(Answer::Done);
            } else {
                self.client.queue(&[b"GET", &keyspace::name(key)]);
                answers.push(Answer::Value(self.keys.expect(key)));
            }
        }
        self.exchange(answers)
    }

    /// Lets the keys of `part` expire, at once.
    ///
    /// # Errors
    /// When the server fails, or refuses a command.
    pub fn expire(&mut self, part: Range<usize>) -> io::Result<()> {
        for first in part.clone().step_by(BATCH) {
            let batch = first..(first + BATCH).min(part.end);
            let answers = vec![Answer::Done; batch.len()];
            for key in batch {
                self.client.queue(&[b"PEXPIRE", &keyspace::name(key), b"1"]);
                self.keys.forget(key);
            }
            self.exchange(answers)?;
        }
        self.drain()
    }

    /// Sends one command in order with the traffic and returns its answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        self.drain()?;
        self.client.ask(words)
    }

    /// Sends what is queued, whose answers must be `answers`, and takes the answers of an earlier batch.
    fn exchange(&mut self, answers: Vec<Answer>) -> io::Result<()> {
        self.client.send()?;
        self.expected.push_back(answers);
        if self.expected.len() < ON_THE_WAY { Ok(()) } else { self.receive() }
    }

    /// Takes the answers of the oldest batch.
    fn receive(&mut self) -> io::Result<()> {
        let answers = self.expected.pop_front().unwrap_or_default();
        self.operations.fetch_add(answers.len() as u64, Ordering::Relaxed);
        for answer in answers {
            let reply = self.client.reply()?;
            if let Answer::Value(expected) = answer {
                self.verdict.judge(expected, &reply);
            }
        }
        Ok(())
    }

    /// Takes the answers of all batches.
    fn drain(&mut self) -> io::Result<()> {
        while !self.expected.is_empty() {
            self.receive()?;
        }
        Ok(())
    }

    fn queue_write(&mut self, key: usize) {
        self.keys.write(key, &mut self.value);
        self.client.queue(&[b"SET", &keyspace::name(key), &self.value]);
    }

    /// A number below `bound`, from a generator with a fixed seed.
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(self.random)) * u128::from(bound)) >> 64) as u64
    }
}

/// Reads every key back and compares it with what `keys` knows of it.
///
/// # Errors
/// When the server fails.
pub fn verify(client: &mut Client, keys: &KeySpace) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut asked = 0..0;
    // The server works at one batch while we check the one before it.
    for first in (0..keys.len() + BATCH).step_by(BATCH) {
        let next = first.min(keys.len())..(first + BATCH).min(keys.len());
        for key in next.clone() {
            client.queue(&[b"GET", &keyspace::name(key)]);
        }
        client.send()?;
        for key in asked {
            verdict.judge(keys.expect(key), &client.reply()?);
        }
        asked = next;
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_wrong_answer_is_told_apart() {
        let mut verdict = Verdict::default();
        let sum = keyspace::checksum(b"value");
        verdict.judge(Some(sum), &Reply::Bytes(b"value"));
        verdict.judge(None, &Reply::Nil);
        assert!(verdict.is_good());
        verdict.judge(Some(sum), &Reply::Bytes(b"valuf"));
        verdict.judge(Some(sum), &Reply::Nil);
        verdict.judge(None, &Reply::Bytes(b"value"));
        assert_eq!(verdict, Verdict { asked: 5, equal: 1, wrong: 1, missing: 1, stale: 1 });
        assert!(!verdict.is_good());
    }
}
