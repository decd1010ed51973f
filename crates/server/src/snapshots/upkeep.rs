//! One round of removing what the engine has of snapshots that failed or are deleted. Whatever cannot be
//! removed yet is there for the next round.

use super::store;
use crate::hosts::Host;
use crate::workspaces::Deps;
use rexec_engine::{EngineError, PLAIN_IMAGES};
use sea_orm::DbErr;

/// Snapshots of one round; more wait for the next.
const ROUND_MAX: u64 = 100;

pub async fn round(deps: &Deps, host: &Host) -> Result<(), DbErr> {
    let engine = &host.engine;
    for left in store::volumes_left(deps.db.read(), host.id, ROUND_MAX).await? {
        match engine.remove_volume(&left.name).await {
            Ok(()) | Err(EngineError::NotFound(_)) => store::volume_gone(deps.db.write(), &left.id).await?,
            Err(error) => tracing::debug!(volume = left.name, %error, "a snapshot's volume cannot be removed yet"),
        }
    }
    for left in store::images_left(deps.db.read(), host.id, ROUND_MAX).await? {
        match engine.remove_image(&left.name).await {
            Ok(()) | Err(EngineError::NotFound(_) | EngineError::ImageNotFound(_)) => {
                deps.crash.point("purge.image");
                store::image_gone(deps.db.write(), &left.id).await?;
            }
            Err(error) => tracing::debug!(image = left.name, %error, "a snapshot's image cannot be removed yet"),
        }
    }
    Ok(())
}

/// Removes what came about after its removal: the engine ends a commit that was begun even when nobody waits for it
/// any more, and makes the volumes of a container that it is still making. With them go images that were made without
/// the volumes of others, once no container is of them.
pub async fn sweep(deps: &Deps, host: &Host) -> Result<(), DbErr> {
    let engine = &host.engine;
    let Ok(images) = engine.images().await else { return Ok(()) };
    for image in images.iter().flat_map(|image| &image.references) {
        // Refused while a container is of it; made once more when the next one is to be.
        if image.starts_with(PLAIN_IMAGES) {
            let _ = engine.remove_image(image).await;
            continue;
        }
        if store::is_remaining_image(deps.db.read(), host.id, image).await?
            && let Err(error) = engine.remove_image(image).await
        {
            tracing::debug!(image, %error, "what is left of a snapshot cannot be removed yet");
        }
    }
    let Ok(volumes) = engine.volumes(&host.labels()).await else { return Ok(()) };
    for volume in volumes {
        if store::is_remaining_volume(deps.db.read(), host.id, &volume.name).await?
            && let Err(error) = engine.remove_volume(&volume.name).await
        {
            tracing::debug!(volume = volume.name, %error, "what is left of a snapshot cannot be removed yet");
        }
    }
    Ok(())
}
