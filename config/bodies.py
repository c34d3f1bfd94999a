"""A body that no page read is read to its end: a proxy that is cut off while it sends answers 502 instead of us."""

READ_AT_MOST = 32 * 1024 * 1024
CHUNK = 64 * 1024


def read_to_the_end(get_response):
    """Read what the page left of the body, as middleware, and throw it away; what is far too long is cut off."""

    def answer(request):
        response, left = get_response(request), READ_AT_MOST
        try:
            while left > 0 and (read := request.read(CHUNK)):
                left -= len(read)
        except OSError:
            return response  # whoever sent it is gone
        return response

    return answer
