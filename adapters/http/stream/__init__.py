"""The stream: WebSocket sessions of voice and chat gateways; docs/spec/stream.md."""
