//! A redis-server under load. The server is what is measured; its clients run without the allocator's preload.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Relative to the scratch directory, in which server and clients are started: a socket's path may have 107 bytes only.
pub(crate) const SOCKET: &str = "redis.sock";

/// Fills an empty server and reads it back: the same answer from every sound one. (redis-benchmark draws its keys at random,
/// never twice the same.)
const CHECK: &str = "
local sum = 0
for i = 1, 20000 do
    redis.call('SET', 'k' .. i, string.rep('x', i * 7919 % 500))
    redis.call('HSET', 'h' .. i % 100, 'f' .. i, i)
    redis.call('RPUSH', 'l' .. i % 50, 'value-' .. i)
end
for i = 1, 20000, 2 do redis.call('DEL', 'k' .. i) end
for i = 2, 20000, 2 do sum = sum + redis.call('STRLEN', 'k' .. i) end
for i = 0, 99 do sum = sum + #redis.call('HGETALL', 'h' .. i) end
return sum + redis.call('DBSIZE')
";

/// Options of the server: no snapshots, no log, no port.
pub(crate) fn server_arguments() -> Vec<String> {
    let text = format!("--port 0 --unixsocket {SOCKET} --appendonly no --logfile /dev/null --save");
    text.split(' ').map(str::to_owned).chain([String::new()]).collect()
}

/// `requests` of each kind from redis-benchmark, the check, and the order to end. Returns what the check printed.
pub(crate) fn drive(scratch: &Path, requests: u32) -> Result<String, String> {
    let begin = Instant::now();
    while UnixStream::connect(scratch.join(SOCKET)).is_err() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err("redis-server has not answered within 10 s".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let requests = requests.to_string();
    client(
        scratch,
        "redis-benchmark",
        &["-n", &requests, "-c", "16", "-P", "16", "-r", "20000", "-d", "200", "-q"],
        &["-t", "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,mset"],
    )?;
    client(scratch, "redis-cli", &["FLUSHALL"], &[])?;
    let sum = client(scratch, "redis-cli", &["EVAL", CHECK, "0"], &[])?;
    client(scratch, "redis-cli", &["SHUTDOWN", "NOSAVE"], &[])?;
    Ok(sum)
}

fn client(scratch: &Path, program: &str, first: &[&str], then: &[&str]) -> Result<String, String> {
    // A server that hangs must not hang the suite.
    let output = Command::new("timeout")
        .args(["60", program, "-s", SOCKET])
        .args(first)
        .args(then)
        .current_dir(scratch)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!(
            "{program}: {}: {said} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}
