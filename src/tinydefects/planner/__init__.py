"""What could be seen at all: defect sizes in pixels, patches and mm, and what each input size leaves of them."""
