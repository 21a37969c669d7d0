# What people run. `make` builds, `make run` starts, `make test` checks.

CARGO ?= cargo
BIN := target/release/roo
IMAGE ?= roo:latest

.PHONY: build run test soak fuzz corpus verify fix image swarm-test bench bench-proxy bench-kv clean

build:
	$(CARGO) build --release --locked -p roo

run: build
	exec $(BIN) dev

test:
	misc/test.sh

# Killed issuers and the proxy under siege with the full numbers, the store under faults for an hour, or for ROO_SOAK_MINUTES,
# and a swarm of three engines; see tests/e2e/issuers.rs, tests/siege/options.rs, tests/chaos/options.rs and
# tests/swarm/options.rs.
soak: build
	misc/install.sh test
	ROO_E2E_NAMES=$${ROO_E2E_NAMES:-300} \
	  $(CARGO) test --locked -p roo-tests --test e2e -- issuers --nocapture
	ROO_SOAK_MINUTES=$${ROO_SOAK_MINUTES:-60} \
	  $(CARGO) test --locked -p roo-tests --test siege -- --nocapture --test-threads=1
	ROO_SOAK_MINUTES=$${ROO_SOAK_MINUTES:-60} ROO_CHAOS_KILLS=$${ROO_CHAOS_KILLS:-1000} \
	  $(CARGO) test --locked -p roo-tests --test chaos -- --nocapture --test-threads=1
	ROO_SOAK_MINUTES=$${ROO_SOAK_MINUTES:-60} $(CARGO) test --locked -p roo-tests --test swarm

# Many more hostile messages than `make test` tries: ROO_FUZZ_CASES of each kind.
fuzz:
	PROPTEST_CASES=$${ROO_FUZZ_CASES:-2000000} $(CARGO) test --release --locked -p roo-proxy --lib -- fuzz:: codec:: http2:: name:: proxy_protocol::

# The corpus of hostile messages, through nginx and HAProxy as well.
corpus:
	misc/install.sh bench
	$(CARGO) test --locked --workspace --test corpus -- --ignored --nocapture

# Everything that must hold before a change lands. Changes no file; `make fix` does.
verify:
	misc/install.sh deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items
	$(CARGO) deny --all-features --locked check licenses bans sources
	misc/test.sh

fix:
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

image: build
	misc/image.sh $(BIN) $(IMAGE)

swarm-test: image
	misc/swarm-test.sh

bench: build
	misc/install.sh bench
	$(CARGO) bench --locked -p roo-tests --bench peers

# The proxy alone, beside nginx and HAProxy.
bench-proxy: build
	misc/install.sh bench
	$(CARGO) bench --locked -p roo-tests --bench peers -- proxy access-log instructions names

# The store alone, beside etcd.
bench-kv: build
	misc/install.sh bench
	$(CARGO) bench --locked -p roo-tests --bench peers -- store cluster scale

clean:
	$(CARGO) clean
