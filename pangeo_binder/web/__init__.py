"""The binder's HTTP face: pages, badges, the event stream and the JSON API. No decisions are made here."""
