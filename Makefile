# Terrace. `make demo` to see it, `make test` to check it; both do all of their set-up.
# CARGO_TARGET_DIR is honoured; `out/` gets what the demonstration draws.

CARGO ?= cargo

TARGET = $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo test bench bench-quick bench-tier bench-tier-quick peers build setup setup-bench clean

# redis-server on two memory tiers: live progress, a table, out/demo/index.html and out/demo/demo.png.
demo: build
	$(CARGO) build --profile tools -p terrace-demo
	$(CARGO) run --quiet --profile tools -p terrace-demo --bin terrace-demo

# Everything that can be checked here, the virtual machines included.
test: build
	$(CARGO) build --workspace --all-targets
	LAB_CRASH_RETRIES=2 $(CARGO) test --workspace --exclude terrace-demo
	LAB_CRASH_RETRIES=2 $(CARGO) test -p terrace-demo -- --test-threads=1
	$(CARGO) test --profile stress -p terrace --features invariants --test invariants --test injection
	$(CARGO) test --profile stress -p terrace-fuzz --features invariants
	TERRACE_DEVICE_NODES=1 TERRACE_START=0 TERRACE_TICK_MS=10 TERRACE_DRAM=32M TERRACE_TEST_FUZZ_SECONDS=20 \
		$(CARGO) test --profile stress -p terrace-fuzz --features invariants random
	$(CARGO) test -p terrace --profile models --features model --test model

# Terrace beside other mallocs: everything in about twenty minutes, or the same with less work in a few minutes.
# Tables, charts and single runs are left in target/bench.
bench: peers
	$(CARGO) run --quiet --release -p terrace-benches -- --instructions
bench-quick: peers
	$(CARGO) run --quiet --release -p terrace-benches -- --quick

# Terrace beside what the kernel and memkind do with two tiers of memory, in virtual machines: some hours, or the
# part that tells most in half an hour. Tables, charts and records are left in target/bench-tier.
bench-tier: build
	$(CARGO) build --release -p terrace-bench-tier
	$(TARGET)/release/terrace-bench-tier --out $(TARGET)/bench-tier
bench-tier-quick: build
	$(CARGO) build --release -p terrace-bench-tier
	$(TARGET)/release/terrace-bench-tier --quick --out $(TARGET)/bench-tier

# Mallocs that no distribution packages, from their crates.
peers: build setup-bench
	$(CARGO) build --release --manifest-path benches/peers/Cargo.toml --target-dir $(TARGET)/peers

# libterrace.so, its topology plugin and the command, in target/release.
build: setup
	$(CARGO) build --release

setup:
	@ci/setup.sh
setup-bench:
	@ci/setup.sh packages-bench.txt

clean:
	$(CARGO) clean
	rm -rf out
