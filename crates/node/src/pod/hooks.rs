//! Handlers of `postStart` and `preStop`: a command, a request, a pause.

use std::{net::IpAddr, time::Duration};

use containers::ContainerId;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::prober::http;
use crate::context::Context;

/// Longest that a hook without another bound may run.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a hook of a running container to its end or to `limit`. The error is what went wrong, in words.
pub async fn run(
    context: &Context,
    id: &ContainerId,
    container: &Container,
    handler: &LifecycleHandler,
    ip: Option<IpAddr>,
    limit: Option<Duration>,
) -> Result<(), String> {
    let limit = limit.unwrap_or(HOOK_TIMEOUT);
    let hook = async {
        if let Some(exec) = &handler.exec {
            let argv = exec.command.clone().unwrap_or_default();
            let output = context.runtime.exec_sync(id, &argv, limit).await.map_err(|error| error.to_string())?;
            return match output.exit_code {
                0 => Ok(()),
                code => {
                    Err(format!("command '{}' exited with {code}: {}", argv.join(" "), output_text(&output.output)))
                }
            };
        }
        if let Some(get) = &handler.http_get {
            let target = http::Target::of(get, container, ip).ok_or("the hook's port or host is unknown")?;
            return http::get(&target, limit).await.map(|_| ());
        }
        if let Some(sleep) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        }
        Ok(())
    };
    match tokio::time::timeout(limit, hook).await {
        Ok(result) => result,
        Err(_) => Err(format!("did not end within {} s", limit.as_secs())),
    }
}

fn output_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
