# Rexec: `make run` is all a fresh machine needs; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
IMAGE ?= rexec/rexec
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -path web/e2e -prune -o -type f -print 2>/dev/null)

# Set-up comes before building, whatever -j says.
.NOTPARALLEL:
.PHONY: help setup build run dev test check bench fuzz images web docker-build docker-run

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## Install and start what this machine lacks: engine, workspace image
	@scripts/setup

build: web ## Build the server and the page into bin/rexec
	@[[ -x bin/rexec ]] || echo "==> Building the server (a few minutes the first time)" >&2
	@scripts/patched
	@cargo build --release --locked --package rexec-cli
	@mkdir -p bin
	@# Renamed into place, so that a running server keeps the file that it was started from.
	@if [[ ! -e bin/rexec || $(TARGET_DIR)/release/rexec -nt bin/rexec ]]; then \
	  cp -p $(TARGET_DIR)/release/rexec bin/.rexec.new && mv bin/.rexec.new bin/rexec; fi

run: setup build ## Set up, build and serve; ends with the address to open
	@exec scripts/serve

dev: setup web/node_modules/.package-lock.json ## Serve with reload on change, server and page
	@exec scripts/dev

test: ## Run every test, on a real engine, database and browser
	@scripts/test

check: web/node_modules/.package-lock.json ## Format, lints, types, dependencies and licences
	@scripts/check

bench: setup build ## Measure against the bare engine, in the same run
	@scripts/bench

fuzz: ## Feed what workspaces send to parsers, made up, FUZZ_SECONDS each (60)
	@scripts/fuzz

images: ## Build the workspace image and those of the role templates (ROLES="node go" for some)
	@scripts/image --build
	@scripts/roles $(ROLES)

web: web/dist/index.html

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@echo "==> Installing the page's dependencies" >&2
	@npm --prefix web ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	@echo "==> Building the page" >&2
	@npm --prefix web run --silent build
	@touch $@

docker-build: build ## Put bin/rexec into a container image; nothing is compiled twice
	@scripts/container build $(IMAGE)

docker-run: docker-build ## Run that image with PostgreSQL and Redis, by Compose
	@scripts/container run $(IMAGE)
