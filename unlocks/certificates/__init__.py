"""The certificate of a consent: what proves it outside the desk, as a page, as PDF and as JSON.

- `facts.facts(consent, ...)`: what was recorded, as a dict of JSON values. All else here knows nothing but that dict.
- `keys.document(facts)`: the JSON file, signed. `verify_certificate.py` checks it, here and offline.
- `pdf.render(facts)`: the PDF file. The same facts give the same bytes. `shaping` puts its text into glyphs.
- `batch_list.content(facts)`: the batches as a CSV file. The same facts give the same bytes.
- `words.paper(facts)`: the certificate in words. The page is `unlocks/certificate.html`, rendered with
  `{"paper": words.paper(facts), "facts": facts, "pdf_url": ..., "json_url": ..., "csv_url": ...}`.
"""
