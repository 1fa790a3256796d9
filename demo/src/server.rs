//! A redis-server of our own: on a Unix socket, without persistence, with or without Terrace under it.
//!
//! Zone: control (a program of its own).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::resp::Client;

/// How long a server may take from its start to its first answer, a snapshot to load included.
const START: Duration = Duration::from_secs(120);

/// How to put Terrace under a server.
#[derive(Clone)]
pub struct Preload {
    /// The `terrace` command.
    pub terrace: PathBuf,
    /// DRAM budget in bytes.
    pub dram: u64,
    /// Bytes that are to stay free on the device.
    pub headroom: u64,
}

/// A running server. Dropped without [`Server::stop`], it is killed.
pub struct Server {
    child: Child,
    pid: i32,
    socket: PathBuf,
    errors: PathBuf,
}

impl Server {
    /// Starts a server that keeps its socket, log and snapshot in `dir`. A snapshot found there
    /// (`dump.rdb`) is loaded first.
    ///
    /// # Errors
    /// When it cannot be started or does not answer in time; the text holds what the server said.
    pub fn start(dir: &Path, preload: Option<&Preload>) -> io::Result<Server> {
        fs::create_dir_all(dir)?;
        let socket = dir.join("socket");
        let errors = dir.join("stderr");
        let mut command = match preload {
            None => Command::new("redis-server"),
            Some(preload) => {
                let mut command = Command::new(&preload.terrace);
                command.args(["run", "--mode", "auto", "--dram", &preload.dram.to_string()]);
                command.args(["--", "redis-server"]).env("TERRACE_HEADROOM", preload.headroom.to_string());
                command
            }
        };
        command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
        // The values do not compress, and the client keeps checksums of its own.
        command.args(["--rdbcompression", "no", "--rdbchecksum", "no"]);
        command.args(["--loglevel", "warning", "--active-expire-effort", "10"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(dir);
        if major_version()? >= 7 {
            // Until 6 the DEBUG command was always there, and so the option unknown.
            command.args(["--enable-debug-command", "local"]);
        }
        command.stdin(Stdio::null()).stdout(File::create(dir.join("log"))?).stderr(File::create(&errors)?);
        let child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{command:?}: {e}")))?;
        let mut server = Server { child, pid: 0, socket, errors };
        server.pid = server.wait_until_it_answers(dir)?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, dir: &Path) -> io::Result<i32> {
        let begin = Instant::now();
        loop {
            let answer = Client::connect(&self.socket).and_then(|mut c| {
                c.ask(&["PING"])?;
                field(&c.ask(&["INFO", "server"])?, "process_id").ok_or(io::ErrorKind::InvalidData.into())
            });
            match answer {
                Ok(pid) => return pid.parse().map_err(|_| io::ErrorKind::InvalidData.into()),
                Err(e) if self.child.try_wait()?.is_some() || begin.elapsed() > START => {
                    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                    let text = format!("redis-server: {e}; it said: {}{log}", self.complaints());
                    return Err(io::Error::new(e.kind(), text));
                }
                // ENOENT: no socket yet; "LOADING …": reading its snapshot.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Opens one more connection.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(&self) -> io::Result<Client> {
        Client::connect(&self.socket)
    }

    /// What the server and its allocator have written to standard error.
    pub fn complaints(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Asks the server to end and waits for it.
    ///
    /// # Errors
    /// When it ends with anything but success.
    pub fn stop(mut self) -> io::Result<()> {
        let mut client = self.connect()?;
        client.queue(&[b"SHUTDOWN", b"NOSAVE"]);
        client.send()?;
        let status = self.child.wait()?;
        let text = format!("redis-server ended with {status}: {}", self.complaints());
        if status.success() { Ok(()) } else { Err(io::Error::other(text)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` both fail at once, harmlessly: the child is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `name` in the text that INFO returns.
pub fn field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(|v| v.trim().to_owned()))
}

/// 7 of "Redis server v=7.0.15 sha=…".
fn major_version() -> io::Result<u32> {
    let output = Command::new("redis-server").arg("--version").output();
    let output =
        output.map_err(|e| io::Error::new(e.kind(), format!("redis-server: {e} (not installed?)")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("v=").nth(1).and_then(|v| v.split('.').next()?.parse().ok());
    version.ok_or_else(|| io::Error::other(format!("redis-server --version said {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_info_are_found() {
        let info = "# Server\r\nprocess_id:4711\r\nprocess_idle:x\r\n";
        assert_eq!(field(info, "process_id").as_deref(), Some("4711"));
        assert_eq!(field(info, "process"), None);
    }
}
