//! The demonstration itself, as a test: redis-server in the lab, as an ordinary user, with every check of the script.

mod support;

use std::time::Duration;
use support::{machine, optimised};

#[test]
fn redis_keeps_its_budget_its_hot_set_and_its_data() {
    let outcome = machine(2048, 640)
        .program("redis-server")
        .file(optimised("terrace-demo-driver"))
        .timeout(Duration::from_secs(1500))
        .run("./terrace-demo-driver --terrace /terrace/terrace /tmp/demo 2>&1 >/out/run.jsonl")
        .unwrap()
        .expect_success();
    println!("{}", outcome.stdout);
    assert!(outcome.file("run.jsonl").unwrap().contains("\"k\":\"end\""));
}
