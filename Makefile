# Terrace. `make demo` to see it, `make test` to check it; both do all of their set-up.
# CARGO_TARGET_DIR is honoured; `out/` gets what the demonstration draws.

CARGO ?= cargo

.PHONY: demo test bench-quick build setup clean

# redis-server on two memory tiers: live progress, a table, out/demo/index.html and out/demo/demo.png.
demo: build
	$(CARGO) build --profile tools -p terrace-demo
	$(CARGO) run --quiet --profile tools -p terrace-demo --bin terrace-demo

# Everything that can be checked here, the virtual machines included.
test: build
	$(CARGO) build --workspace --all-targets
	LAB_CRASH_RETRIES=2 $(CARGO) test --workspace --exclude terrace-demo
	LAB_CRASH_RETRIES=2 LAB_JOBS=1 $(CARGO) test -p terrace-demo -- --test-threads=1
	$(CARGO) test --profile stress -p terrace --features invariants --test invariants --test injection
	$(CARGO) test --profile stress -p terrace-fuzz --features invariants
	TERRACE_DEVICE_NODES=1 TERRACE_START=0 TERRACE_TICK_MS=10 TERRACE_DRAM=32M TERRACE_TEST_FUZZ_SECONDS=20 \
		$(CARGO) test --profile stress -p terrace-fuzz --features invariants random

# Terrace beside other mallocs, in a minute or two.
bench-quick: build
	$(CARGO) run --quiet --release -p terrace-benches -- --quick

# libterrace.so, its topology plugin and the command, in target/release.
build: setup
	$(CARGO) build --release

setup:
	@ci/setup.sh

clean:
	$(CARGO) clean
	rm -rf out
