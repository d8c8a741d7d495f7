//! What the linker is asked for: a smaller file.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A static program that may be loaded anywhere has 26,000 relocations of the same kind: 24 bytes each, or packed a few bits.
    if env::var("HOST") == env::var("TARGET") && applies_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the start code of static programs here knows packed relocations, as glibc does from 2.36 on; an older one would crash.
fn applies_packed_relocations() -> bool {
    let Ok(asked) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let text = String::from_utf8_lossy(&asked.stdout);
    let version = text.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    let Some((Ok(major), Ok(minor))) =
        version.map(|(major, minor)| (major.parse::<u32>(), minor.parse::<u32>()))
    else {
        return false;
    };
    (major, minor) >= (2, 36)
}
