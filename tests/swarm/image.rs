//! The images that nodes run: Roo as it is built, and this very program as the service behind it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::engine::Engine;
use crate::fleet::Run;
use crate::shell::{output, run};
use crate::support::context::roo_bin;

/// The image of Roo.
pub const ROO: &str = "roo:latest";
/// The image of the service.
pub const ORIGIN: &str = "origin:latest";

/// Both images in one file.
pub struct Images {
    file: PathBuf,
}

impl Images {
    /// Those that were built before, or else builds them by an engine.
    pub async fn of_this_build(engine: &Engine, run: Run) -> Result<Self> {
        let file = run.images();
        if !file.exists() {
            build_roo(engine).await?;
            build_origin(engine, &run.directory().join("origin")).await?;
            engine.docker(&["save", "--output", &file.to_string_lossy(), ROO, ORIGIN]).await?;
        }
        Ok(Self { file })
    }

    /// Loads them into an engine; into the one that built them as well, where it costs nothing.
    pub async fn load(&self, engine: &Engine) -> Result<()> {
        engine.docker(&["load", "--quiet", "--input", &self.file.to_string_lossy()]).await.map(drop)
    }
}

async fn build_roo(engine: &Engine) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../misc/image.sh");
    let binary = std::fs::canonicalize(roo_bin())?;
    let mut build = crate::shell::command(&script.to_string_lossy(), &[&binary.to_string_lossy(), ROO]);
    build.env("DOCKER_HOST", engine.host());
    output(build).await.map(drop)
}

/// The program and the shared libraries that it names, and nothing else.
async fn build_origin(engine: &Engine, context: &Path) -> Result<()> {
    let root = context.join("rootfs");
    std::fs::create_dir_all(&root)?;
    let program = std::env::current_exe()?;
    let program = program.to_string_lossy();
    let stripped = root.join("origin");
    run("objcopy", &["--strip-all", &program, &stripped.to_string_lossy()]).await?;
    let libraries = run("ldd", &[&program]).await?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().context("a folder")?)?;
        std::fs::copy(library, place).with_context(|| library.to_owned())?;
    }
    let lines = ["FROM scratch", "COPY rootfs/ /", "EXPOSE 80", "ENTRYPOINT [\"/origin\", \"origin\"]", ""];
    std::fs::write(context.join("Dockerfile"), lines.join("\n"))?;
    let mut build = engine.docker_command(&["build", "--quiet", "--network", "none", "--tag", ORIGIN]);
    build.arg(context).env("DOCKER_BUILDKIT", "0");
    let id = output(build).await?;
    ensure!(id.starts_with("sha256:"), "docker build printed {id}");
    std::fs::remove_dir_all(context).context("the image's files")
}
