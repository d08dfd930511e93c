"""What becomes of personal data before it leaves a worker: pseudonyms, shorter addresses, coarser browsers. Pure."""
