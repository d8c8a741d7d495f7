//! Changes of the image table.

use std::sync::Arc;

use coracle_model::image::ImageEntry;

use super::{Applied, Writing, not_found};

impl Writing {
    pub(super) fn put_image(&mut self, image: &ImageEntry) -> Applied {
        let image = ImageEntry { version: self.version, created_at: self.time, ..image.clone() };
        self.state.put_image(Arc::new(image));
        self.touched.images = true;
        // The platform of an image may be known only now.
        self.touched.pending = true;
        Ok(())
    }

    pub(super) fn remove_image(&mut self, name: &str) -> Applied {
        self.state.image(name).ok_or_else(|| not_found("image", name))?;
        self.state.remove_image(name);
        self.touched.images = true;
        self.touched.pending = true;
        Ok(())
    }
}
