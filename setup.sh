#!/usr/bin/env bash
# Gives this checkout what it needs: compilers and an emulator from apt, Python packages in .venv.
# Ends at once, without the network, when nothing is missing. `make` calls it; it may also be called by hand.
# --tests also brings the compilers and emulators of the cores that only the tests use, --arm64 what test-arm64 does,
# --camera what test-camera does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What must be on the machine, and the Debian package that brings it. No C library for the microcontrollers: the
# firmware uses none, and newlib alone would be 370 MB.
needs=(
    "make                   make"
    "gcc                    gcc"
    "/usr/include/stdlib.h  libc6-dev"
    "clang                  clang"
    "arm-none-eabi-gcc      gcc-arm-none-eabi"
    "qemu-system-arm        qemu-system-arm"
)
# What the tests need beside that: the other cores.
tests=${1:-}
if [[ $tests == --tests ]]; then
    needs+=(
        "riscv64-unknown-elf-gcc  gcc-riscv64-unknown-elf"
        "qemu-system-riscv32      qemu-system-misc"
        "clang-22                 clang-22"
        "llvm-mc-22               llvm-22"
        "xtensa-lx106-elf-ld      binutils-xtensa-lx106"
        "g++                      g++"
        "arm-linux-gnueabi-gcc    gcc-arm-linux-gnueabi"
        "ssh                      openssh-client"
        "/usr/arm-linux-gnueabi/include/stdlib.h  libc6-dev-armel-cross"
    )
fi
if [[ $tests == --tests || $tests == --arm64 ]]; then
    needs+=(
        "qemu-aarch64-static      qemu-user-static"
        "aarch64-linux-gnu-gcc    gcc-aarch64-linux-gnu"
        "/usr/aarch64-linux-gnu/include/stdlib.h  libc6-dev-arm64-cross"
    )
fi
if [[ $tests == --arm64 || $tests == --camera ]]; then needs+=("debootstrap  debootstrap"); fi

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Prints the packages of those needs that are not met.
missing_packages() {
    local need what package
    for need in "${needs[@]}"; do
        read -r what package <<<"$need"
        # A tool may come from elsewhere than apt: what counts is that it can be called.
        if [[ $what == /* ]]; then [[ -e $what ]]; else command -v "$what" >/dev/null; fi || printf ' %s' "$package"
    done
}

# Prints the first Python that can make a virtual environment. 3.11 comes first: tflite-runtime, one half of the
# oracle, has no wheel for later ones. Debian splits ensurepip off into python3-venv.
find_python() {
    local python
    for python in python3.11 python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# Changes with everything that set-up depends on. The path is part of it because scripts in .venv contain it.
fingerprint() {
    { cat pyproject.toml setup.sh && pwd; } | sha256sum
}

ready() {
    [[ -f .venv/ready && "$(<.venv/ready)" == "$(fingerprint)" ]] &&
        [[ -x .venv/bin/python && -x .venv/bin/sdk && -z "$(missing_packages)" ]] && ! wants_emulator && ! wants_sshd
}

# step TITLE COMMAND...: runs COMMAND and shows that it lives. Its whole output is shown only if it fails.
step() {
    local title=$1 start=$SECONDS
    shift
    if ! "$@" </dev/null 2>&1 | tee "$log" | show_progress "$title"; then
        tail -n 30 "$log" >&2
        fail "Set-up failed at $title; the end of its output is above." "Mend the cause and run the same command again."
    fi
    echo "$title: done in $((SECONDS - start)) s"
}

# Shows the latest line of its input: in place on a terminal, else one line every five seconds.
show_progress() {
    local title=$1 line latest="" start=$SECONDS next=$SECONDS
    while true; do
        if IFS= read -r -t 1 line; then
            latest=${line//$'\r'/}
        elif (($? <= 128)); then # the input has ended; above 128 only the second is over
            break
        fi
        if [[ -t 1 ]]; then
            printf '\r\033[K%s: %3d s  %.50s' "$title" $((SECONDS - start)) "$latest"
        elif ((SECONDS >= next)); then
            printf '%s: %3d s  %.90s\n' "$title" $((SECONDS - start)) "$latest"
            next=$((SECONDS + 5))
        fi
    done
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

install_packages() {
    local packages=$1 root by_hand="su -c"
    local install="apt-get install -y --no-install-recommends$packages"
    if ! command -v apt-get >/dev/null; then
        fail "Missing on this machine, by the names of their Debian packages:$packages" \
            "Install them with your system's package manager, then run the same command again."
    fi
    if ((EUID == 0)); then
        root=()
    elif sudo -n true 2>/dev/null; then
        root=(sudo -n)
    else
        if command -v sudo >/dev/null; then by_hand="sudo sh -c"; fi
        fail "Some tools are missing, and this user may not install them. Run this, then the same command again:" \
            "  $by_hand 'apt-get update; $install'"
    fi
    echo "Installing from apt:$packages"
    # A stale package list of some third party fails `update`, but need not stop us.
    step "[1/2] apt packages" "${root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get update; $install -o DPkg::Lock::Timeout=300"
    packages=$(missing_packages)
    [[ -z $packages ]] || fail "apt has installed them, but what they bring is still not there:$packages" \
        "Run: apt-get install --reinstall$packages"
}

install_python_packages() {
    # A half-made or moved environment cannot be mended in place.
    if ! { .venv/bin/python -m pip --version >/dev/null && grep -qF " $PWD/.venv" .venv/pyvenv.cfg; } 2>/dev/null; then
        echo "Making the virtual environment"
        "$(find_python)" -m venv --clear .venv
    fi
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off --editable '.[dev,flash]'
}

# The emulated RP2040 of some tests, which are skipped without it: tried once, where there is npm.
wants_emulator() {
    [[ $tests && ! -d .venv/rp2040js ]] && command -v npm >/dev/null
}

install_emulator() {
    mkdir -p .venv/rp2040js
    npm install --prefix .venv/rp2040js --no-save --ignore-scripts --silent rp2040js@1.4.1 ||
        echo "npm brings no rp2040js: the tests of the emulated RP2040 will be skipped"
}

# The SSH server of some tests, which are skipped without it. It is unpacked and not installed: to install it would
# start it on this machine.
wants_sshd() {
    [[ $tests == --tests && ! -d .venv/sshd && ! -x /usr/sbin/sshd ]] && command -v apt-get dpkg >/dev/null
}

install_sshd() {
    local package
    mkdir -p .venv/sshd/debs
    for package in openssh-server libwrap0 libnsl2 libtirpc3; do
        (cd .venv/sshd/debs && apt-get download -q "$package" >/dev/null 2>&1) || true # not every release has all
    done
    for package in .venv/sshd/debs/*.deb; do [[ ! -e $package ]] || dpkg -x "$package" .venv/sshd; done
    [[ -x .venv/sshd/usr/sbin/sshd ]] || echo "apt brings no openssh-server: the tests over SSH will be skipped"
    # What its package would add: as root it gives up its rights by becoming this user.
    ((EUID != 0)) || getent passwd sshd >/dev/null ||
        useradd --system --no-create-home --home-dir /run/sshd --shell /usr/sbin/nologin sshd
}

main() {
    if ready; then return; fi
    # Two commands at once in one checkout: the second waits for the first, and finds its work done.
    exec 9<setup.sh
    flock 9 2>/dev/null || true
    if ready; then return; fi

    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    trap 'exit 130' INT
    rm -f .venv/ready
    local packages
    packages=$(missing_packages)
    find_python >/dev/null || packages+=" python3-venv"
    if [[ -n $packages ]]; then install_packages "$packages"; fi
    find_python >/dev/null || fail "No Python 3.11 or later with the modules venv and ensurepip is on the PATH." \
        "Install one (on Debian 12: apt-get install python3-venv), then run the same command again."
    step "[2/2] Python packages" install_python_packages
    if wants_emulator; then install_emulator; fi
    if wants_sshd; then install_sshd; fi
    fingerprint >.venv/ready
}

main
