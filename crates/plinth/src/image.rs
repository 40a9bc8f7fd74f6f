//! `plinth image`: the images on this machine, through the running cluster or, without one, straight on the store.

use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{Table, presets};
use containers::Images;

use crate::{
    cli::{ImageArgs, ImageCommand, Output},
    control::{self, Answer, Image, Request},
    data_dir::{self, DataDir},
};

pub async fn run(args: ImageArgs) -> anyhow::Result<ExitCode> {
    crate::require_root("plinth image")?;
    let mut output = Output::Text;
    let requests = match args.command {
        ImageCommand::Import { file } => {
            let path = file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?;
            vec![Request::ImageImport { path }]
        }
        ImageCommand::Ls { output: wanted } => {
            output = wanted;
            vec![Request::ImageList]
        }
        ImageCommand::Rm { images } => images.into_iter().map(|name| Request::ImageRemove { name }).collect(),
        ImageCommand::Pull { image } => vec![Request::ImagePull { name: image }],
    };
    for request in requests {
        let listing = matches!(request, Request::ImageList);
        let answer = match control::ask(&args.paths.run_dir, &request).await? {
            Some(answer) => answer,
            None => {
                let _folder = DataDir::open(&args.paths.data_dir)?;
                let images = Images::open(&data_dir::agent(&args.paths.data_dir)).await?;
                control::perform(&images, request).await?
            }
        };
        show(answer, listing, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(answer: Answer, listing: bool, output: Output) -> anyhow::Result<()> {
    match answer {
        Answer::Images(images) if output == Output::Json => println!("{}", serde_json::to_string_pretty(&images)?),
        Answer::Images(images) if listing => println!("{}", table(&images)),
        Answer::Images(images) => {
            for image in images {
                println!("{} {}", image.tags.join(" "), image.id);
            }
        }
        Answer::Removed(names) => names.iter().for_each(|name| println!("removed {name}")),
        Answer::Checks(_) | Answer::Error(_) => {}
    }
    Ok(())
}

fn table(images: &[Image]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["IMAGE", "IMAGE ID", "SIZE"]);
    for image in images {
        let short = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let short = short.get(..12).unwrap_or(short).to_owned();
        let size = match image.size {
            small @ ..1_000_000 => format!("{:.1} kB", small as f64 / 1e3),
            size => format!("{:.1} MB", size as f64 / 1e6),
        };
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        for name in names {
            table.add_row([name.clone(), short.clone(), size.clone()]);
        }
    }
    table
}
