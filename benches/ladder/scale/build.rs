//! What a feature set costs those who build it: time, crates, and bytes of a program that uses it.
//!
//! Each is built as its users do, from a package of its own that depends on this one and from
//! nothing; the versions are those of this repository's lock file. The bar of the design is of a
//! cold `cargo build`: what an application of tonic and rustls waits longer once it has a mesh.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use tokio::time::Instant;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

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

/// What an application has that calls and serves with tonic over rustls.
const TONIC: &str =
    "tonic = { version = \"0.14\", features = [\"tls-aws-lc\", \"tls-native-roots\"] }\n";

const CHANNEL: &str = "
    let tls = tonic::transport::ClientTlsConfig::new().with_enabled_roots();
    let endpoint = tonic::transport::Endpoint::from_static(\"https://catalog/\");
    let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
    let _ = tonic::client::Grpc::new(channel).ready().await;";

/// The most seconds by which the default features may lengthen a cold build.
const BAR: f64 = 40.0;

/// Both tables; each program is built in a folder below `scratch`, which is removed.
pub(crate) fn tables(scratch: &Path) -> Result<String, String> {
    Ok(format!("{}\n{}", sets(scratch)?, bar(scratch)?))
}

/// An application of tonic and rustls with the default features and without, built for development.
fn bar(scratch: &Path) -> Result<String, String> {
    let mut text = String::from(
        "| a cold `cargo build` of | crates | s | s of processor |\n| --- | ---: | ---: | ---: |\n",
    );
    let mut of = |name, dependencies: &str, main: &str| -> Result<f64, String> {
        let folder = scratch.join("program");
        write(&folder, dependencies, main)?;
        let crates = crates(&folder)?;
        let (began, before) = (Instant::now(), children()?);
        cargo(&folder, &["build", "--quiet"])?;
        let (took, busy) = (began.elapsed().as_secs_f64(), children()? - before);
        writeln!(text, "| {name} | {crates} | {took:.0} | {busy:.0} |")
            .expect("a string takes all");
        let _ = fs::remove_dir_all(&folder);
        Ok(took)
    };
    let alone = of("tonic and rustls", TONIC, CHANNEL)?;
    let ours = format!("{TONIC}{}", meshwork("default"));
    let added = of(
        "the same and this library",
        &ours,
        &format!("{CHANNEL}{YAML}"),
    )? - alone;
    let stands = if added <= BAR { "met" } else { "missed" };
    write!(
        text,
        "\n| bar | allowed | measured | stands |\n| --- | ---: | ---: | --- |\n\
         | s that the default features add to a cold `cargo build` on 2 cores | {BAR:.0} | {added:.0} | {stands} |\n"
    )
    .expect("a string takes all");
    Ok(text)
}

/// What each feature set costs in a release build.
fn sets(scratch: &Path) -> Result<String, String> {
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
        write(&folder, &meshwork(features), main)?;
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

/// The line of a manifest that asks for these features.
fn meshwork(features: &str) -> String {
    let features: Vec<String> = features
        .split(", ")
        .filter(|feature| !feature.is_empty())
        .map(|feature| format!("{feature:?}"))
        .collect();
    let features = features.join(", ");
    format!("meshwork = {{ path = {HERE:?}, default-features = false, features = [{features}] }}\n")
}

fn write(folder: &Path, dependencies: &str, main: &str) -> Result<(), String> {
    let failed = |why| format!("{}: {why}", folder.display());
    let manifest = format!(
        "[package]\nname = \"program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n{dependencies}\
         http = \"1\"\ntokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n\
         [profile.release]\nstrip = true\n",
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
