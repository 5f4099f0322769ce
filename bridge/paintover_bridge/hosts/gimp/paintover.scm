; Paintover in GIMP 2.10: menus and dialogs. The work is done by plug-in-paintover-run, beside it.

(define (paintover-parasite image)
  ; What an image was opened for, as (shot frame path); an empty list for other images.
  (let ((names (cadr (gimp-image-get-parasite-list image))))
    (if (member "paintover" names)
        (read (open-input-string (caddr (car (gimp-image-get-parasite image "paintover")))))
        '())))

(define (paintover-attach image shot frame path)
  (let ((port (open-output-string)))
    (write (list shot frame path) port)
    (gimp-image-attach-parasite image (list "paintover" 1 (get-output-string port)))))

(define (paintover-draft-of path images)
  ; The image that shows the draft beside a picture, if it is open.
  (cond ((null? images) #f)
        ((string=? path (car (gimp-image-get-filename (car images)))) (car images))
        (else (paintover-draft-of path (cdr images)))))

(define (paintover-show path)
  ; Shows a file; in place of the image that showed the same file before.
  (let* ((before (paintover-draft-of path (vector->list (cadr (gimp-image-list)))))
         (image (car (gimp-file-load RUN-NONINTERACTIVE path path))))
    (if before
        (gimp-displays-reconnect before image)
        (gimp-display-new image))
    image))

(define (script-fu-paintover-paint shot frame)
  (let* ((path (car (plug-in-paintover-run RUN-NONINTERACTIVE shot frame "")))
         (image (car (gimp-file-load RUN-NONINTERACTIVE path path))))
    (paintover-attach image shot frame path)
    (gimp-display-new image)
    (gimp-displays-flush)))

(define (script-fu-paintover-draft image drawable)
  (let ((opened (paintover-parasite image)))
    (if (null? opened)
        (error "This image is no frame of a shot: open one with File > Paint Over a Shot.")
        (let ((shot (car opened)) (frame (cadr opened)) (path (caddr opened)))
          (file-psd-save RUN-NONINTERACTIVE image drawable path path 0 0)
          (gimp-image-clean-all image)
          (paintover-show (car (plug-in-paintover-run RUN-NONINTERACTIVE shot frame "once")))
          (gimp-displays-flush)))))

(script-fu-register "script-fu-paintover-paint"
  "Paint _Over a Shot..." "Opens a frame of a shot to paint on" "Paintover" "Apache-2.0" "2026" ""
  SF-FILENAME "A video, or a frame of an image sequence" ""
  SF-ADJUSTMENT "Frame of a video" '(0 0 10000000 1 10 0 SF-SPINNER))
(script-fu-menu-register "script-fu-paintover-paint" "<Image>/File")

(script-fu-register "script-fu-paintover-draft"
  "Save and See the _Draft" "Saves the painting, and shows what it makes of the shot's other frames" "Paintover"
  "Apache-2.0" "2026" "RGB*"
  SF-IMAGE "Image" 0
  SF-DRAWABLE "Drawable" 0)
(script-fu-menu-register "script-fu-paintover-draft" "<Image>/File")
