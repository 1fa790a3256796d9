//! Servers: redis and nginx, under load from their own tools.

use super::support::{Outcome, preload, preloaded, run, scratch};
use super::{assert_quiet, shell};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server in the background, in a process group of its own; what is left of the group is killed when it is dropped.
struct Server {
    child: Child,
    log: std::path::PathBuf,
}

impl Server {
    #[track_caller]
    fn start(mut command: Command, directory: &Path, ready: impl Fn() -> bool) -> Server {
        let log = directory.join("server.log");
        let output = File::create(&log).expect("a log can be made");
        let errors = output.try_clone().expect("a descriptor can be duplicated");
        let child =
            preload(command.current_dir(directory).stdin(Stdio::null()).stdout(output).stderr(errors))
                .process_group(0)
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut server = Server { child, log };
        let started = Instant::now();
        while !ready() {
            let ended = server.child.try_wait().expect("the server can be waited for");
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_secs(20),
                "the server is not up ({ended:?}):\n{}",
                server.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the end of a server that has been told to end.
    #[track_caller]
    fn ends_well(mut self) -> String {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the server can be waited for") {
                break status;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the server does not end:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        let output = self.output();
        assert!(status.success(), "the server ends with {status}:\n{output}");
        let noise: Vec<_> =
            output.lines().filter(|l| l.starts_with("terrace: ") || l.contains("ld.so")).collect();
        assert!(noise.is_empty(), "{noise:?}");
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // SAFETY: the group is the child's own, made by process_group(0), and the child has not been reaped.
            unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

#[test]
fn redis_under_its_benchmark() {
    let directory = scratch("redis");
    let socket = directory.join("socket");
    let cli = |arguments: &[&str]| -> Outcome {
        let mut command = preloaded("redis-cli");
        run(command.arg("-s").arg(&socket).args(arguments), 60)
    };
    let text = |arguments: &[&str]| cli(arguments).expect_success("redis-cli").stdout.trim().to_owned();

    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--activedefrag", "no"]);
    command.arg("--unixsocket").arg(&socket).args(["--io-threads", "2", "--lazyfree-lazy-user-del", "yes"]);
    let server = Server::start(command, &directory, || cli(&["PING"]).stdout == "PONG\n");

    let mut benchmark = preloaded("redis-benchmark");
    benchmark
        .arg("-s")
        .arg(&socket)
        .args(["-q", "-n", "20000", "-c", "20", "-P", "8", "-r", "10000", "-d", "300"]);
    benchmark.args(["-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset"]);
    let result = run(&mut benchmark, 120).expect_success("redis-benchmark");
    assert_quiet(&result, "redis-benchmark");
    assert!(result.stdout.matches("requests per second").count() >= 11, "{}", result.describe());

    // What was written survives a save, a reload and a rewrite of everything; the digest covers every key and value.
    text(&["DEBUG", "POPULATE", "50000", "key", "200"]);
    let digest = text(&["DEBUG", "DIGEST"]);
    assert_eq!(digest.len(), 40, "{digest}");
    assert_eq!(text(&["BGSAVE"]), "Background saving started");
    assert_eq!(text(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(text(&["DEBUG", "DIGEST"]), digest);
    assert_eq!(text(&["FLUSHALL", "ASYNC"]), "OK");
    assert_eq!(text(&["DBSIZE"]), "0");
    text(&["MEMORY", "PURGE"]);
    assert_eq!(text(&["PING"]), "PONG");
    let _ = cli(&["SHUTDOWN", "NOSAVE"]);
    server.ends_well();
}

#[test]
fn nginx_under_load() {
    let directory = scratch("nginx");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port is free")
        .local_addr()
        .expect("bound")
        .port();
    let (page, large): (String, String) = ("<p>hello</p>\n".repeat(3000), "0123456789abcdef".repeat(60_000));
    fs::create_dir(directory.join("www")).expect("a directory can be made");
    fs::write(directory.join("www/page.html"), &page).expect("a page can be written");
    fs::write(directory.join("www/large.bin"), &large).expect("a page can be written");
    let here = directory.display();
    let configuration = format!(
        "daemon off; pid {here}/pid; error_log {here}/error.log; worker_processes 2; user root;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
           access_log off; default_type text/html; gzip on; gzip_min_length 100; sendfile off;\n\
           client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/f;\n\
           uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
           server {{ listen 127.0.0.1:{port}; root {here}/www;\n\
             location /again/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_buffering on; }} }}\n\
         }}\n"
    );
    fs::write(directory.join("nginx.conf"), configuration).expect("the configuration can be written");
    let nginx = || {
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(directory.join("nginx.conf"));
        command
    };
    let server =
        Server::start(nginx(), &directory, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());

    let load = |path: &str, requests: &str, header: &str, keep_alive: &[&str]| {
        let mut ab = preloaded("ab");
        ab.args(keep_alive).args(["-q", "-c", "20", "-n", requests, "-H", header]);
        ab.arg(format!("http://127.0.0.1:{port}{path}"));
        let result = run(&mut ab, 60).expect_success("ab");
        let reported = |name: &str| {
            let line = result.stdout.lines().find(|line| line.starts_with(name)).unwrap_or("0");
            line.split_whitespace().last().unwrap_or_default().to_owned()
        };
        assert_eq!(reported("Complete requests:"), requests, "{}", result.describe());
        assert!(result.stdout.contains("Failed requests:        0"), "{}", result.describe());
        assert!(!result.stdout.contains("Non-2xx"), "{}", result.describe());
    };
    load("/page.html", "5000", "Accept-Encoding: gzip", &["-k"]);
    load("/again/page.html", "3000", "Accept-Encoding: identity", &["-k"]);
    load("/large.bin", "300", "Accept-Encoding: gzip", &["-k"]);
    // New workers take over from the old ones, which close their idle connections: each request makes its own.
    run(preload(nginx().args(["-s", "reload"])), 20).expect_success("nginx -s reload");
    load("/again/large.bin", "200", "Accept-Encoding: identity", &[]);

    let mut fetch = shell(
        "curl --silent --fail --compressed \"$1/again/page.html\" | cmp - www/page.html\n\
                       curl --silent --fail \"$1/large.bin\" | cmp - www/large.bin",
    );
    run(preload(fetch.arg("sh").arg(format!("http://127.0.0.1:{port}")).current_dir(&directory)), 30)
        .expect_success("curl");
    run(preload(nginx().args(["-s", "quit"])), 20).expect_success("nginx -s quit");
    server.ends_well();
    let errors = fs::read_to_string(directory.join("error.log")).unwrap_or_default();
    assert!(
        !errors.contains("signal") && !errors.contains("[crit]") && !errors.contains("[alert]"),
        "{errors}"
    );
}
