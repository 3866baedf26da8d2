//! Names groups of platforms once, so that no list of systems is repeated in the code.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it");
    let groups = [
        ("linux_like", &["linux", "android"][..]),
        ("kqueue_like", &["macos", "ios", "freebsd", "netbsd", "openbsd", "dragonfly"][..]),
        // Systems that have ppoll(2).
        ("ppoll", &["linux", "android", "freebsd", "openbsd"][..]),
        // Systems whose kqueue lacks EVFILT_USER, as far as rustix knows.
        ("no_user_filter", &["netbsd", "openbsd"][..]),
    ];
    // As Cargo.toml has the crate.
    let processor = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let known = ["x86_64", "aarch64", "riscv64", "loongarch64", "powerpc64"].contains(&processor.as_str());
    println!("cargo::rustc-check-cfg=cfg(uring)");
    if os == "linux" && known && std::env::var_os("CARGO_FEATURE_IO_URING").is_some() {
        println!("cargo::rustc-cfg=uring");
    }
    for (name, members) in groups {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if members.contains(&os.as_str()) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
