# The front door: every command that people and CI run. `make help` lists them.
# Only bash, make, git and Rust are expected; `setup` installs the rest (Debian, Ubuntu).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test images push manual bench screenshots fmt lint doc clean setup \
	check-fmt check-lint check-scripts check-units check-package check-fuzz check-manual check-browser check-guides check-doc check-features check-deny \
	check-manifests check-images check-reproducible check-e2e check-demo build app-images down

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## see the three patterns at work (ONCE=1: verify every step and leave)
	@images/demo.sh

test: ## everything CI checks; one summary at the end
	@.ci/checks

images: ## build the three images and print their sizes
	@images/setup.sh build images
	@images/build.sh

push: ## build and push the images: make push REGISTRY=registry.example.com/team (see images/push.sh)
	@[ -n "$(REGISTRY)" ] || { echo 'error: say where to: make push REGISTRY=registry.example.com/team' >&2; exit 2; }
	@$(MAKE) --no-print-directory images
	@images/push.sh "$(REGISTRY)"

bench: ## ratios against peers and floors, measured in one run (BENCH='name ...' for some, BENCH_ROUNDS=1 for a quick look)
	@images/setup.sh build bench
	@ONLY_BINARIES=1 ALSO=e2e images/build.sh
	@. images/lib.sh && "$$(static_folder)/bench" $(BENCH)

manual: build ## manual pages and completions for bash, zsh and fish, into target/manual
	@. images/lib.sh && SOURCE_DATE_EPOCH="$$(source_date_epoch)" images/manual.py "$${CARGO_TARGET_DIR:-target}/debug" target/manual

fmt: ## format the code
	cargo fmt --all

lint: check-fmt check-lint check-scripts ## formatting, clippy and shellcheck, warnings denied

doc: ## build the API documentation, warnings denied
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

clean: down ## remove what was built, and pods and images of the demo
	@images/clean.sh
	cargo clean

down: ## remove pods and processes that a demo or test left behind
	@images/pods/play.sh down

setup: ## install what build, images, tests and demo need
	@images/setup.sh build apps test

# --- the checks of `make test`, each usable by itself ---

check-fmt: ## formatting
	cargo fmt --all --check

check-lint: ## clippy
	cargo clippy --locked --workspace --all-targets -- -D warnings

check-scripts: ## shellcheck
	@images/setup.sh lint
	shellcheck --external-sources images/*.sh images/apps/*.sh images/apps/*/*.sh images/pods/*.sh .ci/*

check-units: ## unit, property, process and documentation tests
	cargo test --locked --workspace --exclude e2e --no-fail-fast -- --include-ignored
	cargo test --locked --package gitsync --no-default-features --features cli --test verify -- --include-ignored

check-package: ## each crate packs, and builds from its package, offline
	@.ci/package

check-fuzz: ## every fuzz target for a few seconds (TARGET_SECONDS=N for longer)
	@.ci/fuzz

check-manual: build ## manual pages and completions
	@.ci/manual

check-browser: build ## the status pages in Chromium; screenshots in target/screenshots
	@.ci/browser

screenshots: check-browser ## take the pictures of the README anew
	for name in gitsync redis-ambassador metrics-adapter; do for scheme in light dark; do \
	  cp target/screenshots/$$name-phone-$$scheme.png images/screenshots/$$name-$$scheme.png || exit 1; done; done

check-guides: build ## every command and configuration of the guides, as printed
	@.ci/guides

check-doc: ## API documentation builds without warnings; every public item has an example
	@.ci/doc

check-features: ## each crate without its command line
	@.ci/features

check-deny: ## licences, bans, sources, advisories
	@.ci/deny

check-manifests: ## Pod manifests against the Kubernetes schemas
	@.ci/manifests

build:
	cargo build --locked --workspace --bins

app-images:
	@images/apps/build.sh

check-images: images app-images ## size, content, read-only root, any UID, DNS, bills of materials, a registry
	@images/check.sh
	@.ci/sbom
	@images/registry-check.sh

check-reproducible: ## one commit built in two folders gives one digest
	@images/reproducible.sh

check-e2e: build images app-images ## the end-to-end stories, pods included
	cargo test --locked --package e2e --no-fail-fast -- --include-ignored

check-demo: ## the demo, verified, in pods and as processes
	@ONCE=1 DEMO_MODE=pods images/demo.sh
	@ONCE=1 DEMO_MODE=processes images/demo.sh
