//! HLS stage: access units to CMAF segments and playlists.
