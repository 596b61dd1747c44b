"""The binder's HTTP interface: pages, badges, the event stream and the JSON API. It makes no policy decisions."""
