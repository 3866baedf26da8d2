//! Names groups of platforms once, so that no list of systems is repeated in the code.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it");
    let groups = [
        ("linux_like", &["linux", "android"][..]),
        // Systems that have accept4(2).
        ("accept4", &["linux", "android", "freebsd", "netbsd", "openbsd", "dragonfly"][..]),
        // Systems that bind a thread to a CPU.
        ("affinity", &["linux", "android", "freebsd"][..]),
    ];
    for (name, members) in groups {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if members.contains(&os.as_str()) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
