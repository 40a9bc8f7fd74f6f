//! Compiles the eBPF programs with clang; the shared layouts come from the crate `datapath-abi`.

use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("abi.h"), datapath_abi::c_header()).expect("OUT_DIR is writable");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    // The kernel's headers include <asm/types.h>, which Debian keeps in a folder of the host's triplet.
    let triplet = format!("{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the architecture"));
    let endian = match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb",
        _ => "bpfel",
    };
    let result = Command::new(&clang)
        .args(["-target", endian, "-O2", "-g", "-Wall", "-Werror", "-mcpu=v3", "-c", "bpf/socket.c", "-o"])
        .arg(out.join("socket.o"))
        .arg(format!("-I{}", out.display()))
        .arg(format!("-I/usr/include/{triplet}"))
        .output();
    match result {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            if text.contains("file not found") {
                panic!("headers for eBPF are missing: apt-get install libbpf-dev linux-libc-dev\n{text}");
            }
            panic!("clang could not compile bpf/socket.c:\n{text}");
        }
        Err(error) => panic!("`{clang}` compiles the eBPF programs but does not run ({error}): apt-get install clang"),
    }
}
