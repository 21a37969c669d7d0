# What people run. `make` builds, `make run` starts, `make test` checks.

CARGO ?= cargo
BIN := target/release/roo
IMAGE ?= roo:latest

.PHONY: build run test verify fix image swarm-test bench clean

build:
	$(CARGO) build --release --locked -p roo

run: build
	exec $(BIN) dev

test:
	misc/test.sh

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

clean:
	$(CARGO) clean
