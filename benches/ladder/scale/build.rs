//! What a feature set costs those who build it: time, crates, and bytes of a program that uses it.
//!
//! Each is built as its users do, from a package of its own that depends on this one and from
//! nothing; the versions are those of this repository's lock file.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A feature set, and the main function of a program that uses it.
struct Set {
    name: &'static str,
    features: &'static str,
    main: &'static str,
}

/// From the least to the most.
const FEATURES: [Set; 5] = [
    Set {
        name: "none (`layer/`)",
        features: "",
        main: "let _ = meshwork::layer::timeout::TimeoutLayer::new(std::time::Duration::from_secs(1));",
    },
    Set {
        name: "`outbound`",
        features: "outbound",
        main: "
            let (_publisher, feed) = meshwork::source::feed(Default::default());
            let mesh = meshwork::Mesh::builder().feed(feed).start().await.unwrap();
            let request = http::Request::get(\"http://catalog/\").body(meshwork::Body::empty()).unwrap();
            let _ = mesh.client().request(request).await;",
    },
    Set {
        name: "default (`outbound`, `inbound`, `yaml`, `tls`, `dns`)",
        features: "default",
        main: YAML,
    },
    Set {
        name: "default and `xds`",
        features: "default, xds",
        main: XDS,
    },
    Set {
        name: "default, `xds`, `jwt`, `rate-limit`, `spiffe`, `otel`",
        features: "default, xds, jwt, rate-limit, spiffe, otel",
        main: XDS,
    },
];

const YAML: &str = "
    let mesh = meshwork::Mesh::builder().yaml(\"mesh/\").start().await.unwrap();
    let listener = mesh.listen(\"127.0.0.1:0\").await.unwrap();
    let _ = (mesh.inbound_layer(), listener);
    let request = http::Request::get(\"http://catalog/\").body(meshwork::Body::empty()).unwrap();
    let _ = mesh.client().request(request).await;";

const XDS: &str = "
    let bootstrap = meshwork::source::xds::Bootstrap::from_env().unwrap();
    let mesh = meshwork::Mesh::builder().xds(bootstrap).start().await.unwrap();
    let listener = mesh.listen(\"127.0.0.1:0\").await.unwrap();
    let _ = (mesh.inbound_layer(), listener);
    let request = http::Request::get(\"http://catalog/\").body(meshwork::Body::empty()).unwrap();
    let _ = mesh.client().request(request).await;";

/// The table; each set is built in a folder below `scratch`, which is removed.
pub(crate) fn table(scratch: &Path) -> Result<String, String> {
    let mut text = String::from(
        "| features | crates | release build, s of processor | the program, MiB |\n| --- | ---: | ---: | ---: |\n",
    );
    for Set {
        name,
        features,
        main,
    } in FEATURES
    {
        let folder = scratch.join("program");
        write(&folder, features, main)?;
        let crates = crates(&folder)?;
        let before = children()?;
        cargo(&folder, &["build", "--release", "--quiet"])?;
        let took = children()? - before;
        let program = folder.join("target/release/program");
        let bytes =
            fs::metadata(&program).map_err(|why| format!("{}: {why}", program.display()))?;
        let size = bytes.len() as f64 / f64::from(1 << 20);
        writeln!(text, "| {name} | {crates} | {took:.0} | {size:.1} |")
            .expect("a string takes all");
        let _ = fs::remove_dir_all(&folder);
    }
    Ok(text)
}

fn write(folder: &Path, features: &str, main: &str) -> Result<(), String> {
    const HERE: &str = env!("CARGO_MANIFEST_DIR");
    let failed = |why| format!("{}: {why}", folder.display());
    let features: Vec<String> = features
        .split(", ")
        .filter(|feature| !feature.is_empty())
        .map(|feature| format!("{feature:?}"))
        .collect();
    let manifest = format!(
        "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nmeshwork = {{ path = {HERE:?}, default-features = false, features = [{}] }}\n\
         http = \"1\"\ntokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n\
         [profile.release]\nstrip = true\n",
        features.join(", ")
    );
    let main = format!("#[tokio::main]\nasync fn main() {{{main}}}\n");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("src")).map_err(failed)?;
    fs::write(folder.join("Cargo.toml"), manifest).map_err(failed)?;
    fs::write(folder.join("src/main.rs"), main).map_err(failed)?;
    fs::copy(
        Path::new(HERE).join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .map_err(failed)?;
    Ok(())
}

/// How many packages it takes, this one included.
fn crates(folder: &Path) -> Result<usize, String> {
    let words = [
        "tree",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--no-dedupe",
    ];
    let listed = cargo(folder, &words)?;
    let mut names: Vec<&str> = listed
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.len() - 1)
}

fn cargo(folder: &Path, words: &[&str]) -> Result<String, String> {
    let output = Command::new("cargo")
        .args(words)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .map_err(|why| format!("cargo: {why}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Seconds of processor that this process's children have had, and theirs.
fn children() -> Result<f64, String> {
    /// Clock ticks in a second, which Linux never changes for programs.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").map_err(|why| format!("/proc: {why}"))?;
    // Behind the name, which may have spaces, the first is the third field; `cutime` is the 16th.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = fields.split(' ').skip(13).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}
