//! `image build|list|import`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, Talk};
use super::session::Interrupts;
use super::{Format, Global, session};
use crate::cluster::apply::{Context, Progress as _};
use crate::cluster::credentials::hex;
use crate::cluster::imports::{self, Shipment};
use crate::cluster::readiness::Started;
use crate::cluster::state::Store;
use crate::failure::{Code, Failure, Result};
use crate::node_image::{archive, cache};
use crate::runtime::docker::DockerRuntime;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Build the node image of this binary
    Build(Build),
    /// List the node images built so far
    #[command(visible_alias = "ls")]
    List(List),
    /// Give images to the nodes of a cluster
    #[command(visible_alias = "load")]
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Write it to a file, as an OCI archive
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Archives as `docker save` or OCI tools write them, also compressed; or names of the Docker engine's images
    #[arg(required = true, value_name = "ARCHIVE|IMAGE")]
    sources: Vec<String>,
    /// Cluster to give them to
    #[arg(short, long, default_value = session::DEFAULT_CLUSTER)]
    cluster: String,
    /// How long to wait for the nodes, such as 90s or 5m; 0 is for ever
    #[arg(long, default_value = "5m", value_parser = super::duration)]
    timeout: Duration,
}

impl Verb {
    pub(super) async fn run(self, global: &Global) -> Result<()> {
        match self {
            Self::Build(build) => build.run(global),
            Self::List(list) => list.run(global),
            Self::Import(import) => import.run(global).await,
        }
    }
}

impl Build {
    fn run(self, global: &Global) -> Result<()> {
        let image = session::images(&session::store(global)?).ensure()?;
        if let Some(path) = &self.output {
            let failed = |error| Failure::io(path.display(), &error);
            let contents = std::fs::read(&image.archive).map_err(failed)?;
            linux::files::write_atomic(path, &contents, 0o644).map_err(failed)?;
        }
        output::print(&format!("{}\n", image.name))
    }
}

impl List {
    fn run(self, global: &Global) -> Result<()> {
        let images = session::images(&session::store(global)?).list()?;
        let size = |path: &Path| std::fs::metadata(path).map(|it| it.len()).unwrap_or_default();
        match self.output {
            Format::Name => output::print(&images.iter().map(|it| format!("{}\n", it.name)).collect::<String>()),
            Format::Json => {
                let object = |it: &crate::node_image::NodeImage| -> Value {
                    json!({"name": it.name, "archive": it.archive, "bytes": size(&it.archive)})
                };
                output::print_json(&Value::Array(images.iter().map(object).collect()))
            }
            Format::Table if images.is_empty() => Ok(()),
            Format::Table => {
                let row = |it: &crate::node_image::NodeImage| {
                    vec![it.name.clone(), format!("{} MB", size(&it.archive) / 1_000_000)]
                };
                output::print_table(&["NAME", "SIZE"], &images.iter().map(row).collect::<Vec<_>>())
            }
        }
    }
}

impl Import {
    async fn run(self, global: &Global) -> Result<()> {
        let store = session::store(global)?;
        let state = session::existing(&store, &self.cluster)?;
        let (talk, interrupts) = (Talk::new(global), Interrupts::listen()?);
        // All are judged before the first is sent.
        let mut shipments = Vec::new();
        for source in &self.sources {
            shipments.push(shipment(&store, source, &talk).await?);
        }
        let runtime = session::runtime(&store, state.runtime).await?;
        let context = Context {
            store: &store,
            runtime: runtime.as_ref(),
            image: None,
            progress: &talk,
            cancelled: &interrupts.token,
            timeout: Some(self.timeout).filter(|it| !it.is_zero()),
            switch_context: false,
            started: Started::default(),
        };
        imports::send(&shipments, &state, &context).await
    }
}

/// An archive where there is a file of that name, else an image of the engine.
async fn shipment(store: &Store, source: &str, talk: &Talk) -> Result<Shipment> {
    let path = Path::new(source);
    let failed = |error: io::Error| Failure::io(path.display(), &error);
    let archive = match File::open(path) {
        Ok(file) if file.metadata().map_err(failed)?.is_file() => file,
        Ok(_) => {
            let failure = Failure::new(Code::Usage, format!("{source} is not a file"));
            return Err(failure.remedy("name an archive, or an image of the Docker engine"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !looks_like_a_file(source) => {
            talk.doing("image", &format!("saving {source}"));
            saved(store, source).await?
        }
        Err(error) => return Err(failed(error)),
    };
    let judge = archive.try_clone().map_err(failed)?;
    let images = archive::names(judge, path)?;
    Ok(Shipment { named: source.to_owned(), images, file_name: file_name(&archive).map_err(failed)?, archive })
}

fn looks_like_a_file(source: &str) -> bool {
    source.starts_with(['/', '.', '~']) || [".tar", ".tar.gz", ".tgz"].iter().any(|it| source.ends_with(it))
}

/// The engine's archive of an image, in a file without a name.
async fn saved(store: &Store, image: &str) -> Result<File> {
    let engine = DockerRuntime::connect().await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("there is no file {image}, and for an image: {}", failure.message), ..failure }
            .remedy("name an archive that is there, or start the engine that has the image")
    })?;
    let file = linux::files::unnamed(store.root()).map_err(|error| Failure::io(store.root().display(), &error))?;
    engine.save(image, &file).await?;
    Ok(file)
}

/// Named by its contents: the same archive twice is one file.
fn file_name(archive: &File) -> io::Result<String> {
    let (mut digest, mut block, mut at) = (ring::digest::Context::new(&ring::digest::SHA256), vec![0; 1 << 20], 0);
    loop {
        match archive.read_at(&mut block, at)? {
            0 => break,
            length => {
                digest.update(&block[..length]);
                at += length as u64;
            }
        }
    }
    Ok(format!("{}-{}.tar", &hex(digest.finish().as_ref())[..16], cache::architecture()))
}
